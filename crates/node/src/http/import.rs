//! `/v1/cluster/import`: filling an empty cluster with the keys and leases of another one.
//!
//! `mainstay import-etcd` is who asks; a step is one log entry, and what the steps are and must be
//! is `mainstay_kv::Import`.

use bytes::Bytes;
use mainstay_kv::{ENVELOPE_BYTES_MAX, Import, ImportedLease, KeyValue};
use mainstay_service::Consistency;
use serde::Deserialize;

use crate::http::{
    answer,
    front::{Answered, Asked, SharedFront},
    json::{self, Base64, Decimal, Document},
    query::Query,
    terms::Terms,
};

/// Largest step as JSON: what a log entry takes, in base64 and with room for the numbers.
const BODY_BYTES_MAX: usize = ENVELOPE_BYTES_MAX / 3 * 4 + 4 * 1024 * 1024;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Form {
    Begin {
        source: Decimal,
    },
    Forget {
        keys: Vec<Base64>,
    },
    Leases {
        #[serde(default)]
        ended: Vec<Decimal>,
        #[serde(default)]
        granted: Vec<LeaseForm>,
    },
    Pairs {
        after_revision: Decimal,
        pairs: Vec<PairForm>,
    },
    End {
        after_revision: Decimal,
        revision: Decimal,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseForm {
    id: Decimal,
    ttl_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PairForm {
    key: Base64,
    #[serde(default)]
    value: Option<Base64>,
    create_revision: Decimal,
    mod_revision: Decimal,
    version: Decimal,
    #[serde(default)]
    lease: Decimal,
}

/// `GET /v1/cluster/import`.
pub(crate) async fn get(front: SharedFront, request: Asked) -> Answered {
    Query::parse(request.uri().query(), &[])?;
    let caller = Terms::read(request.headers())?.reader(Consistency::Linearizable);
    let read = front.door.import_state(&caller).await?;
    let mut document = Document::with_capacity(128);
    document.text("{");
    match read.answer.source {
        Some(source) => document.decimal("source", source),
        None => document.text("\"source\":null"),
    };
    document.text(",").decimal("revision", read.revision);
    document.text(",").decimal("keys", read.answer.keys);
    document.text(",").decimal("leases", read.answer.leases).text("}");
    Ok(answer::json(front.stamp.read(read.revision, read.freshness), document))
}

/// `POST /v1/cluster/import`.
pub(crate) async fn post(front: SharedFront, request: Asked) -> Answered {
    let (head, body) = request.into_parts();
    Query::parse(head.uri.query(), &[])?;
    let caller = Terms::read(&head.headers)?.writer()?;
    let body = front.read_body(body, BODY_BYTES_MAX).await?;
    let step = Import::from(json::parse::<Form>(&body)?);
    // The JSON is not needed while the step waits.
    drop(body);
    let written = front.door.import(caller, step).await?;
    let (keys, leases) = written.outcome;
    let mut document = Document::with_capacity(96);
    document.text("{").decimal("revision", written.revision).text(",");
    document.decimal("keys", keys).text(",").decimal("leases", leases).text("}");
    let response = answer::json(front.stamp.at(written.revision), document);
    Ok(answer::repeated(response, written.repeated))
}

impl From<Form> for Import {
    fn from(form: Form) -> Self {
        match form {
            Form::Begin { source } => Self::Begin { source: source.0 },
            Form::Forget { keys } => {
                Self::Forget { keys: keys.into_iter().map(|key| key.0).collect() }
            }
            Form::Leases { ended, granted } => Self::Leases {
                ended: ended.into_iter().map(|id| id.0).collect(),
                granted: granted
                    .into_iter()
                    .map(|lease| ImportedLease { id: lease.id.0, ttl_ms: lease.ttl_ms })
                    .collect(),
            },
            Form::Pairs { after_revision, pairs } => Self::Pairs {
                after_revision: after_revision.0,
                pairs: pairs.into_iter().map(KeyValue::from).collect(),
            },
            Form::End { after_revision, revision } => {
                Self::End { after_revision: after_revision.0, revision: revision.0 }
            }
        }
    }
}

impl From<PairForm> for KeyValue {
    fn from(form: PairForm) -> Self {
        Self {
            key: form.key.0,
            value: form.value.map_or_else(Bytes::new, |value| value.0),
            create_revision: form.create_revision.0,
            mod_revision: form.mod_revision.0,
            version: form.version.0,
            lease: form.lease.0,
        }
    }
}
