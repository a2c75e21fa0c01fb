//! What the command line takes and what it refuses.

use super::*;

fn parse(line: &str) -> Result<Arguments, clap::Error> {
    let words = std::iter::once("mainstay").chain(line.split_whitespace());
    let matches = command_line().try_get_matches_from(words)?;
    let arguments = <Arguments as clap::FromArgMatches>::from_arg_matches(&matches)?;
    match arguments.misplaced(&matches) {
        Some(error) => Err(error),
        None => Ok(arguments),
    }
}

#[test]
fn the_command_line_is_sound() {
    command_line().debug_assert();
}

#[test]
fn flags_of_the_cluster_stand_before_or_after_the_command() {
    for line in [
        "--endpoints http://a:1,b --output json --timeout 500ms get k",
        "get k --endpoints http://a:1,b --output json --timeout 500ms",
    ] {
        let cluster = parse(line).expect(line).cluster;
        let addresses: Vec<_> = cluster.endpoints.iter().map(Endpoint::address).collect();
        assert_eq!(addresses, ["a:1", "b:2379"]);
        assert_eq!(cluster.output, Output::Json);
        assert_eq!(cluster.timeout, Duration::from_millis(500));
    }
}

#[test]
fn commands_that_talk_to_no_cluster_refuse_its_flags() {
    for line in [
        "dev --output json",
        "completion bash --timeout 1s",
        "--endpoints a serve",
        "recover --data-dir a --endpoints b",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("does not talk to a cluster"), "{error}");
    }
}

#[test]
fn help_offers_no_flag_that_the_command_refuses() {
    for (name, flags) in FOREIGN_FLAGS {
        let mut all = command_line();
        all.build();
        let help = all.find_subcommand_mut(name).expect(name).render_long_help().to_string();
        for flag in flags {
            assert!(!help.contains(&format!("--{flag}")), "{name}: {help}");
        }
    }
    let mut all = command_line();
    all.build();
    let help = all.find_subcommand_mut("get").expect("get").render_long_help().to_string();
    assert!(help.contains("--endpoints"), "{help}");
}

#[test]
fn a_wrong_value_that_a_variable_holds_is_told_with_the_variable() {
    let variable = |line: &str, argument: &str, set: &str| {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let mut error = clap::Error::new(ErrorKind::ValueValidation);
        error.insert(ContextKind::InvalidArg, ContextValue::String(argument.to_owned()));
        variable_behind(&error, &words, |name| name == set)
    };
    let timeout = "--timeout <TIME>";
    assert_eq!(variable("get k", timeout, "MAINSTAY_TIMEOUT").as_deref(), Some("MAINSTAY_TIMEOUT"));
    assert_eq!(variable("get k --timeout x", timeout, "MAINSTAY_TIMEOUT"), None);
    assert_eq!(variable("get k --timeout=x", timeout, "MAINSTAY_TIMEOUT"), None);
    assert_eq!(variable("get k", timeout, "MAINSTAY_OUTPUT"), None);
    assert_eq!(
        variable("get k", "--keys-only", "MAINSTAY_KEYS_ONLY").as_deref(),
        Some("MAINSTAY_KEYS_ONLY")
    );
    assert_eq!(variable("get", "<KEY>", "MAINSTAY_KEY"), None);
}

#[test]
fn every_documented_line_is_understood() {
    for line in [
        "dev",
        "doctor",
        "doctor --data-dir d -o json",
        "recover --data-dir a --data-dir b --into c --name n1 --yes --force",
        "recover --data-dir a --dry-run -o json",
        "dev --nodes 5 --base-port 0 --data-dir /tmp/x",
        "serve --name n1 --data-dir d --client-addr a:1 --peer-addr a:2 --bootstrap n1=a:2",
        "get k",
        "get p --prefix --limit 5 --keys-only --revision 7 --consistency stale --hex",
        "get p --prefix --count-only",
        "get k --base64",
        "get k --raw",
        "put k v",
        "put k",
        "put k - --lease 77 --if-match 7 --idempotency-key once",
        "put k v --create",
        "put k v --if-none-match",
        "put k -- -5",
        "del k",
        "del p --prefix",
        "del --all",
        "txn file.json",
        "txn -",
        "txn --if version(a)=0 --else del",
        "watch k --prefix --from-revision 7 --previous --limit 3",
        "lease grant 10s --id 7",
        "lease revoke 7",
        "lease keep-alive 7 --once",
        "lease list",
        "lease show 7",
        "compact 100",
        "status",
        "leader transfer",
        "leader transfer n2",
        "leader transfer 18446744073709551615",
        "detector --limit 5",
        "detector",
        "health",
        "completion zsh",
        "bench --mode cas --clients 8 --value-size 16 --keys 100 --seconds 3 --preload --rate 100",
    ] {
        if let Err(error) = parse(line) {
            // A condition that is cut by blanks cannot be written here.
            assert!(line.starts_with("txn --if"), "{line}: {error}");
        }
    }
}

#[test]
fn nonsense_is_a_usage_error() {
    for line in [
        "",
        "fly",
        "get",
        "get k --limit 5",
        "get k --prefix --limit 0",
        "get k --consistency maybe",
        "get k --hex --base64",
        "put k v --create --if-match 7",
        "put k v --lease x",
        "del",
        "del k --all",
        "del k --prefix --if-match 7",
        "txn",
        "txn file.json --then del",
        "lease grant 1d",
        "lease",
        "leader",
        "leader transfer n1 n2",
        "detector --limit 1001",
        "compact",
        "compact -1",
        "dev --nodes 0",
        "dev --nodes 10",
        "dev --base-port 65536",
        "get k --endpoints https://a:1",
        "get k --timeout 0s",
        "get k --timeout 2h",
        "get k --output yaml",
        "bench --mode fly",
        "bench --clients 0",
        "serve --profile moon",
        "serve --bootstrap a=b:1 --join http://a:1",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

/// Flags that widen a delete are not taken from the environment, where they are easily forgotten,
/// nor is what a recovery does and to which folder, nor how a change of members or an import is
/// meant; those of a node are read by the node itself.
const NOT_IN_ENVIRONMENT: [&str; 17] = [
    "del --prefix",
    "del --all",
    "doctor --data-dir",
    "recover --data-dir",
    "recover --into",
    "recover --name",
    "recover --dry-run",
    "recover --yes",
    "recover --force",
    "add --dry-run",
    "promote --dry-run",
    "remove --dry-run",
    "remove --force",
    "import-etcd --dry-run",
    "import-etcd --abandon",
    "--help",
    "--version",
];

fn check_environment(command: &clap::Command, name: &str) {
    for argument in command.get_arguments() {
        let Some(flag) = argument.get_long() else { continue };
        let exempt = [format!("{name} --{flag}"), format!("--{flag}")];
        let exempt = exempt.iter().any(|flag| NOT_IN_ENVIRONMENT.contains(&flag.as_str()));
        let expected = format!("MAINSTAY_{}", flag.to_uppercase().replace('-', "_"));
        let variable = argument.get_env().map(|variable| variable.to_string_lossy().into_owned());
        let expected = (!exempt).then_some(expected);
        assert_eq!(variable, expected, "{name} --{flag}");
    }
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "serve") {
        check_environment(inner, inner.get_name());
    }
}

#[test]
fn every_flag_is_an_environment_variable_of_the_same_name() {
    check_environment(&command_line(), "mainstay");
}
