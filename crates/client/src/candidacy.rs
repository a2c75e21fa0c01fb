//! Elections among programs: one of them is elected, the others wait for their turn.
//!
//! These have nothing to do with who leads the cluster. The elected program publishes a value, such
//! as its address, which everybody can read and follow. As with locks, being elected ends with a
//! lease, and a fencing token tells a former winner from the present one.

use std::time::Duration;

use bytes::Bytes;
use mainstay_kv::command::Compare;

use crate::{
    client::Client,
    error::CallError,
    keys::{PageRequest, PutRequest},
    queue::{Place, QueueError, TTL, prefix},
    watch::{Watch, WatchError, WatchMessage, WatchRequest},
};

/// In which election a program stands, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidacy {
    /// The election's name; its keys are below the name and a slash.
    pub election: Bytes,
    /// What others read of this program once it is elected.
    pub value: Bytes,
    /// How long the office outlives a program that died.
    pub ttl: Duration,
    /// How long to wait while others are elected; `None` is for as long as it takes.
    pub patience: Option<Duration>,
}

/// An office that this program was elected to. Dropped, it is given up in the background.
#[derive(Debug)]
pub struct Office {
    place: Place,
}

/// Who is elected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elected {
    /// What the program published.
    pub value: Bytes,
    /// The key that stands for it.
    pub key: Bytes,
    /// Rises from winner to winner.
    pub fencing_token: u64,
}

/// Follows an election.
#[derive(Debug)]
pub struct ElectionWatch {
    client: Client,
    election: Bytes,
    told: Option<Option<Elected>>,
    watch: Option<Watch>,
}

impl Candidacy {
    /// A candidacy whose office outlives the program by 10 seconds, waited for as long as it takes.
    #[must_use]
    pub fn new(election: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { election: election.into(), value: value.into(), ttl: TTL, patience: None }
    }
}

impl Client {
    /// Waits until this program is elected; who stood first is elected first.
    ///
    /// # Errors
    /// As [`Client::lock`].
    pub async fn campaign(&self, candidacy: Candidacy) -> Result<Office, QueueError> {
        let Candidacy { election, value, ttl, patience } = candidacy;
        let place = Place::first(self, &election, value, ttl, patience).await?;
        Ok(Office { place })
    }

    /// Who is elected at this moment, if anybody is.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn elected(&self, election: impl Into<Bytes>) -> Result<Option<Elected>, CallError> {
        Ok(self.elected_at(&election.into()).await?.0)
    }

    /// Follows an election: tells who is elected now, and every change of it.
    #[must_use]
    pub fn follow_election(&self, election: impl Into<Bytes>) -> ElectionWatch {
        let election = election.into();
        ElectionWatch { client: self.clone(), election, told: None, watch: None }
    }

    /// Who is elected, and at which revision.
    async fn elected_at(&self, election: &Bytes) -> Result<(Option<Elected>, u64), CallError> {
        let request = PageRequest { prefix: prefix(election), ..PageRequest::default() };
        let mut pages = self.pages(request);
        let (mut first, mut revision) = (None::<Elected>, 0);
        while let Some(page) = pages.next().await? {
            revision = page.revision;
            for pair in page.pairs {
                if first.as_ref().is_none_or(|first| pair.create_revision < first.fencing_token) {
                    let fencing_token = pair.create_revision;
                    first = Some(Elected { value: pair.value, key: pair.key, fencing_token });
                }
            }
        }
        Ok((first, revision))
    }
}

impl Office {
    /// A number that rises from winner to winner: the revision that created the office's key.
    #[must_use]
    pub const fn fencing_token(&self) -> u64 {
        self.place.token()
    }

    /// Whether this program is certainly elected at this moment.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        self.place.lease().is_sure()
    }

    /// Returns when somebody else may be elected: stop working then.
    pub async fn lost(&self) {
        self.place.lease().lost().await;
    }

    /// Holds in a transaction while this program is elected.
    #[must_use]
    pub fn is_kept(&self) -> Compare {
        self.place.is_kept()
    }

    /// Writes a key while this program is elected; condition and origin of the request are not
    /// used. The revision of the write.
    ///
    /// # Errors
    /// [`QueueError::Lost`] if it is elected no more: nothing was written. Otherwise as
    /// [`Client::put`].
    pub async fn put(&self, request: PutRequest) -> Result<u64, QueueError> {
        self.place.put(request.key, request.value, request.lease).await
    }

    /// Publishes another value.
    ///
    /// # Errors
    /// As [`Office::put`].
    pub async fn proclaim(&self, value: impl Into<Bytes>) -> Result<(), QueueError> {
        let (key, lease) = (self.place.key().clone(), self.place.lease().id());
        self.place.put(key, value.into(), lease).await.map(|_revision| ())
    }

    /// Gives the office to the next.
    ///
    /// # Errors
    /// [`CallError`]; then it is given up when its lease ends.
    pub async fn resign(self) -> Result<(), CallError> {
        self.place.leave().await
    }
}

impl ElectionWatch {
    /// Who is elected: at first the present winner, then whoever comes next. `None` while nobody
    /// is. Winners that came and went between two looks are not told.
    ///
    /// # Errors
    /// [`QueueError::Call`] and [`QueueError::Watch`]; asked again, it goes on.
    pub async fn next(&mut self) -> Result<Option<Elected>, QueueError> {
        loop {
            if let Some(watch) = &mut self.watch {
                match watch.next().await {
                    Ok(WatchMessage::Change(_)) => {}
                    Ok(WatchMessage::Progress { .. }) => continue,
                    Err(WatchError::Compacted { .. } | WatchError::StoreReplaced) => {
                        self.watch = None;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            let (now, revision) = self.client.elected_at(&self.election).await?;
            if self.watch.is_none() {
                let request = WatchRequest::prefix(prefix(&self.election));
                let from_revision = Some(revision + 1);
                let request = WatchRequest { from_revision, ..request };
                self.watch = Some(self.client.watch(request).await?);
            }
            if self.told.as_ref() != Some(&now) {
                self.told = Some(now.clone());
                return Ok(now);
            }
        }
    }
}
