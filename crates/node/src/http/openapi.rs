//! `GET /openapi.json`: the API in a machine's form.

use bytes::Bytes;

use crate::http::{
    answer,
    front::{Answered, Asked, SharedFront},
    query::Query,
};

/// The document, checked against the routes by a test.
const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`.
pub(crate) async fn get(front: SharedFront, request: Asked) -> Answered {
    Query::parse(request.uri().query(), &[])?;
    let document = Bytes::from_static(DOCUMENT.as_bytes());
    Ok(answer::bytes(front.stamp.now(), "application/json", document))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::http::route::ROUTES;

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).expect("is JSON")
    }

    #[test]
    fn the_document_has_every_route_with_its_methods_and_no_other() {
        // HEAD and OPTIONS go without saying, and so does a slash at the end.
        let routes: BTreeSet<(String, String)> = ROUTES
            .iter()
            .filter(|(path, _methods)| !path.ends_with('/'))
            .flat_map(|(path, methods)| {
                methods
                    .split(", ")
                    .filter(|method| !["HEAD", "OPTIONS"].contains(method))
                    .map(|method| ((*path).to_owned(), method.to_lowercase()))
            })
            .collect();
        let document = document();
        let paths = document["paths"].as_object().expect("has paths");
        let documented: BTreeSet<(String, String)> = paths
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().expect("a path has methods").keys();
                methods.map(|method| (path.clone(), method.clone()))
            })
            .collect();
        assert_eq!(documented, routes);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn check(value: &Value, document: &Value, found: &mut usize) {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(reference)) = members.get("$ref") {
                        let pointer = reference.strip_prefix('#').expect("is in this document");
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                        *found += 1;
                    }
                    members.values().for_each(|value| check(value, document, found));
                }
                Value::Array(items) => items.iter().for_each(|item| check(item, document, found)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let mut found = 0;
        check(&document(), &document(), &mut found);
        assert!(found > 100, "{found} references were found");
    }
}
