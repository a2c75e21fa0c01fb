//! Configuration: precedence, the whole checked, and every mistake named where it stands.

use std::path::Path;

use super::*;

fn file(text: &str) -> Result<Options, ConfigError> {
    Options::from_toml(text, Path::new("node.toml"))
}

fn options(pairs: &[(&str, &str)]) -> Options {
    let variables =
        pairs.iter().map(|(name, value)| (format!("MAINSTAY_{name}"), (*value).to_owned()));
    Options::from_environment(variables).expect("the options are usable")
}

fn resolve(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::resolve(options(pairs), Options::default(), Options::default())
}

#[test]
fn a_node_that_is_told_nothing_has_the_defaults() {
    let config = resolve(&[]).expect("resolves");
    assert_eq!(config.client_addr, "127.0.0.1:2379");
    assert_eq!(config.peer_addr, "127.0.0.1:2380");
    assert_eq!(config.data_dir, Path::new("node.mainstay"));
    assert_eq!(config.birth, Birth::Resume);
    assert_eq!(config.watch_progress_interval, Duration::from_secs(600));
    assert_eq!(config.settings(), Settings::default());
}

#[test]
fn a_flag_goes_over_the_environment_and_that_over_the_file() {
    let file = file("name = 'of-file'\nzone = 'of-file'\nsite = 'of-file'").expect("parses");
    let environment = options(&[("NAME", "of-environment"), ("ZONE", "of-environment")]);
    let flags = Options { name: Some("of-flag".to_owned()), ..Options::default() };
    let config = Config::resolve(flags, environment, file).expect("resolves");
    assert_eq!(config.name, "of-flag");
    assert_eq!(config.zone, "of-environment");
    assert_eq!(config.site, "of-file");
}

#[test]
fn every_option_can_stand_in_the_file_and_in_the_environment() {
    let text = r#"
        name = "n1"
        data_dir = "/data"
        client_addr = "10.0.0.1:2379"
        peer_addr = "10.0.0.1:2380"
        advertise_client_urls = ["http://a:1", "http://b:2"]
        advertise_peer_addr = "10.0.0.1:2380"
        bootstrap = ["n1=10.0.0.1:2380", "n2=10.0.0.2:2380"]
        join = "http://c:3"
        join_timeout_ms = 90_000
        zone = "z"
        site = "s"
        profile = "wan"
        quota_bytes = 1_000_000_000
        watch_progress_interval_ms = 5_000
        log = "debug"
        log_format = "json"
        runtime = "multi_thread"
    "#;
    let environment = options(&[
        ("NAME", "n1"),
        ("DATA_DIR", "/data"),
        ("CLIENT_ADDR", "10.0.0.1:2379"),
        ("PEER_ADDR", "10.0.0.1:2380"),
        ("ADVERTISE_CLIENT_URLS", "http://a:1,http://b:2"),
        ("ADVERTISE_PEER_ADDR", "10.0.0.1:2380"),
        ("BOOTSTRAP", "n1=10.0.0.1:2380, n2=10.0.0.2:2380"),
        ("JOIN", "http://c:3"),
        ("JOIN_TIMEOUT_MS", "90000"),
        ("ZONE", "z"),
        ("SITE", "s"),
        ("PROFILE", "wan"),
        ("QUOTA_BYTES", "1000000000"),
        ("WATCH_PROGRESS_INTERVAL_MS", "5000"),
        ("LOG", "debug"),
        ("LOG_FORMAT", "json"),
        ("RUNTIME", "multi_thread"),
        ("ENDPOINTS", "a flag of the client"),
    ]);
    let from_file = file(text).expect("parses");
    assert_eq!(from_file, environment);
    for name in Options::NAMES {
        assert!(text.contains(&format!("{name} =")), "{name} is missing in this test");
    }
    let debug = format!("{from_file:?}");
    assert!(!debug.contains("None"), "an option was not read: {debug}");
}

#[test]
fn mistakes_in_the_file_are_named_with_file_line_and_key() {
    let table = [
        (
            "name = 'n1'\n\nclient_adr = 'x'",
            "node.toml, line 3: there is no option \"client_adr\"; did you mean \"client_addr\"?",
        ),
        ("data-dir = 'x'", "line 1: there is no option \"data-dir\"; did you mean \"data_dir\"?"),
        ("[raft]\nheartbeat = 1", "line 1: there is no option \"raft\""),
        (
            "name = 'n1'\nquota_bytes = 'much'",
            "line 2: \"quota_bytes\" must be a whole number that is not negative, not a string",
        ),
        ("quota_bytes = -1", "\"quota_bytes\" must be a whole number that is not negative, not -1"),
        ("name = 1", "line 1: \"name\" must be a string, not an integer"),
        ("bootstrap = ['a', 7]", "\"bootstrap\" must be a list of strings, not an integer"),
        ("profile = 'moon'", "\"profile\" must be \"lan\" or \"wan\", not \"moon\""),
        ("name = 'n1'\nlog = ", "node.toml, line 2, column 7: "),
        ("name = 'a'\nname = 'b'", "line 2, column 1: duplicate key"),
    ];
    for (text, wanted) in table {
        let message = file(text).expect_err(text).to_string();
        assert!(message.contains(wanted), "{text:?} gave: {message}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Options::from_file(Path::new("/nowhere/node.toml")).expect_err("is not there");
    assert!(error.to_string().contains("/nowhere/node.toml cannot be read"), "{error}");
}

#[test]
fn mistakes_in_the_environment_name_the_variable() {
    let variables = [("MAINSTAY_QUOTA_BYTES".to_owned(), "8G".to_owned())];
    let error = Options::from_environment(variables).expect_err("is not a number");
    let wanted = "MAINSTAY_QUOTA_BYTES cannot be \"8G\": it is a whole number of bytes";
    assert!(error.to_string().contains(wanted), "{error}");
}

#[test]
fn values_that_cannot_be_used_are_refused_by_name() {
    let table: &[(&[(&str, &str)], &str)] = &[
        (&[("NAME", "a b")], "option name cannot be \"a b\""),
        (&[("CLIENT_ADDR", "2379")], "option client_addr cannot be \"2379\""),
        (&[("CLIENT_ADDR", "::1:2379")], "option client_addr"),
        (&[("PEER_ADDR", "127.0.0.1:99999")], "option peer_addr"),
        (&[("PEER_ADDR", "127.0.0.1:2379")], "clients and peers need a port each"),
        (&[("CLIENT_ADDR", "0.0.0.0:2379")], "advertise_client_urls must say"),
        (&[("PEER_ADDR", "[::]:2380")], "advertise_peer_addr must say"),
        (&[("ADVERTISE_CLIENT_URLS", "127.0.0.1:2379")], "http://host:port"),
        (&[("ADVERTISE_PEER_ADDR", "0.0.0.0:2380")], "peers must be able to dial it"),
        (&[("JOIN", "n1:2379")], "http://host:port"),
        (&[("JOIN", "https://n1:2379")], "speaks no TLS; write http://host:port"),
        (&[("JOIN", "http://n1:0")], "http://host:port"),
        (&[("JOIN", "http://n1:2379/v1")], "http://host:port"),
        (&[("JOIN_TIMEOUT_MS", "86400001")], "at most a day"),
        (&[("JOIN", "http://n1:2379"), ("BOOTSTRAP", "node=a:1")], "not both"),
        (&[("BOOTSTRAP", "n1")], "NAME=PEER"),
        (&[("BOOTSTRAP", "n1=a:1,n2=b:1")], "own name is not in the list"),
        (&[("BOOTSTRAP", "node=a:1,node=b:1")], "the same name"),
        (&[("BOOTSTRAP", "node=a:1,n2=a:1")], "the same address"),
        (&[("BOOTSTRAP", "node=a:0")], "cannot dial port 0"),
        (
            &[("BOOTSTRAP", "node=a:1"), ("ADVERTISE_PEER_ADDR", "b:1")],
            "the bootstrap list has another address",
        ),
        (&[("QUOTA_BYTES", "1000")], "option quota_bytes"),
        (&[("WATCH_PROGRESS_INTERVAL_MS", "99")], "option watch_progress_interval_ms"),
    ];
    for (pairs, wanted) in table {
        let message = resolve(pairs).expect_err(wanted).to_string();
        assert!(message.contains(wanted), "{pairs:?} gave: {message}");
    }
}

#[test]
fn a_bootstrap_list_says_where_peers_dial_this_node() {
    let config = resolve(&[("BOOTSTRAP", "n2=b:1,node=a:1"), ("PEER_ADDR", "0.0.0.0:1")])
        .expect("the list says where");
    assert_eq!(config.advertise_peer_addr, "a:1");
    let Birth::Bootstrap(peers) = config.birth else { panic!("the list is the birth") };
    assert_eq!(peers[0].name, "n2");
}

#[test]
fn the_wan_profile_has_slower_timings() {
    let settings = resolve(&[("PROFILE", "wan")]).expect("resolves").settings();
    assert_eq!((settings.heartbeat_ms, settings.election_timeout_ms_max), (250, 1_500));
}
