//! Every route of the API, once.
//!
//! The router, the labels of metrics and the OpenAPI document are held against this table by
//! tests.

/// The routes with the methods that each takes; `GET` includes `HEAD`.
pub(crate) const ROUTES: [(&str, &str); 36] = [
    ("/v1/kv/{key}", "GET, HEAD, PUT, DELETE, OPTIONS"),
    ("/v1/kv", "GET, HEAD, OPTIONS"),
    ("/v1/txn", "POST, OPTIONS"),
    ("/v1/compact", "POST, OPTIONS"),
    ("/v1/watch", "GET, HEAD, OPTIONS"),
    ("/v1/leases", "GET, HEAD, POST, OPTIONS"),
    ("/v1/leases/{id}", "GET, HEAD, DELETE, OPTIONS"),
    ("/v1/leases/{id}/keep-alive", "POST, OPTIONS"),
    ("/v1/sessions", "POST, OPTIONS"),
    ("/v1/cluster", "GET, HEAD, OPTIONS"),
    ("/v1/cluster/settings", "PUT, OPTIONS"),
    ("/v1/cluster/import", "GET, HEAD, POST, OPTIONS"),
    ("/v1/cluster/snapshot", "POST, OPTIONS"),
    ("/v1/cluster/leader", "POST, OPTIONS"),
    ("/v1/cluster/autopilot", "GET, HEAD, OPTIONS"),
    ("/v1/cluster/members", "POST, OPTIONS"),
    ("/v1/cluster/members/{id}", "DELETE, OPTIONS"),
    ("/v1/cluster/members/{id}/promote", "POST, OPTIONS"),
    ("/v1/failure-detector", "GET, HEAD, OPTIONS"),
    ("/v1/node", "GET, HEAD, OPTIONS"),
    ("/health", "GET, HEAD, OPTIONS"),
    ("/health/", "GET, HEAD, OPTIONS"),
    ("/health/live", "GET, HEAD, OPTIONS"),
    ("/health/live/", "GET, HEAD, OPTIONS"),
    ("/health/ready", "GET, HEAD, OPTIONS"),
    ("/health/ready/", "GET, HEAD, OPTIONS"),
    ("/livez", "GET, HEAD, OPTIONS"),
    ("/livez/", "GET, HEAD, OPTIONS"),
    ("/livez/{check}", "GET, HEAD, OPTIONS"),
    ("/readyz", "GET, HEAD, OPTIONS"),
    ("/readyz/", "GET, HEAD, OPTIONS"),
    ("/readyz/{check}", "GET, HEAD, OPTIONS"),
    ("/version", "GET, HEAD, OPTIONS"),
    ("/version/", "GET, HEAD, OPTIONS"),
    ("/metrics", "GET, HEAD, OPTIONS"),
    ("/openapi.json", "GET, HEAD, OPTIONS"),
];

/// The label of paths that are no route.
const NO_ROUTE: &str = "none";

/// The label of the etcd API, which has routes of its own.
const ETCD: &str = "etcd";

/// What comes before the key in the path of a key.
pub(crate) const KEY_PREFIX: &str = "/v1/kv/";

/// A place in [`ROUTES`], or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route(usize);

impl Route {
    /// How many there are, the one that is none and the etcd API included.
    pub(crate) const COUNT: usize = ROUTES.len() + 2;

    /// The etcd API.
    pub(crate) const ETCD: Self = Self(ROUTES.len() + 1);

    /// The route of a key.
    pub(crate) const KEY: Self = Self(0);

    /// The route of `path`.
    pub(crate) fn of(path: &str) -> Self {
        if path.starts_with(KEY_PREFIX) {
            return Self::KEY;
        }
        let template =
            match (path.strip_prefix("/v1/leases/"), path.strip_prefix("/v1/cluster/members/")) {
                (Some(rest), _) if rest.ends_with("/keep-alive") => "/v1/leases/{id}/keep-alive",
                (Some(_), _) => "/v1/leases/{id}",
                (_, Some(rest)) if rest.ends_with("/promote") => "/v1/cluster/members/{id}/promote",
                (_, Some(_)) => "/v1/cluster/members/{id}",
                (None, None) if is_below("/livez/", path) => "/livez/{check}",
                (None, None) if is_below("/readyz/", path) => "/readyz/{check}",
                (None, None) => path,
            };
        Self(ROUTES.iter().position(|(route, _)| *route == template).unwrap_or(ROUTES.len()))
    }

    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self)
    }

    /// A number below [`Route::COUNT`].
    pub(crate) const fn index(self) -> usize {
        self.0
    }

    /// How metrics call it.
    pub(crate) fn label(self) -> &'static str {
        let other = if self == Self::ETCD { ETCD } else { NO_ROUTE };
        ROUTES.get(self.0).map_or(other, |(template, _methods)| template)
    }

    /// The methods that it takes, if it is a route.
    pub(crate) fn methods(self) -> Option<&'static str> {
        ROUTES.get(self.0).map(|(_template, methods)| *methods)
    }

    /// Whether it is answered even while the node stops: what looks at the node, not through it.
    pub(crate) fn is_about_the_node(self) -> bool {
        self.methods().is_some() && !self.label().starts_with("/v1/")
            || ["/v1/cluster", "/v1/failure-detector"].contains(&self.label())
    }
}

/// Whether a path has one more segment than `prefix`.
fn is_below(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && !rest.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_finds_its_route() {
        for (path, label) in [
            ("/v1/kv/a/b", "/v1/kv/{key}"),
            ("/v1/kv/", "/v1/kv/{key}"),
            ("/v1/kv", "/v1/kv"),
            ("/v1/leases", "/v1/leases"),
            ("/v1/leases/7", "/v1/leases/{id}"),
            ("/v1/leases/7/keep-alive", "/v1/leases/{id}/keep-alive"),
            ("/v1/cluster/members", "/v1/cluster/members"),
            ("/v1/cluster/members/n1", "/v1/cluster/members/{id}"),
            ("/v1/cluster/members/n1/promote", "/v1/cluster/members/{id}/promote"),
            ("/health/ready", "/health/ready"),
            ("/readyz/", "/readyz/"),
            ("/readyz/linearizable_read", "/readyz/{check}"),
            ("/livez/serializable_read", "/livez/{check}"),
            ("/livez/a/b", "none"),
            ("/", "none"),
            ("/v2/kv/a", "none"),
        ] {
            assert_eq!(Route::of(path).label(), label, "{path}");
        }
    }

    #[test]
    fn only_what_looks_at_the_node_is_answered_while_it_stops() {
        let open: Vec<_> =
            Route::all().filter(|route| route.is_about_the_node()).map(Route::label).collect();
        assert!(open.contains(&"/health/ready") && open.contains(&"/v1/cluster"));
        assert!(open.contains(&"/v1/failure-detector"));
        for shut in ["/v1/kv/{key}", "/v1/cluster/leader", "none"] {
            assert!(!open.contains(&shut), "{shut}");
        }
    }
}
