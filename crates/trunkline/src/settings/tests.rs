//! Precedence, and the words of each kind of error.

use super::*;

fn env(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>().into_iter()
}

fn with_file(text: &str, pairs: &[(&str, &str)], mut flags: ServeFlags) -> Result<Settings, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.toml");
    std::fs::write(&path, text).unwrap();
    flags.config = Some(path);
    let place = dir.path().display().to_string() + "/";
    load(&flags, env(pairs)).map_err(|error| error.0.replace(&place, ""))
}

#[test]
fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
    let file =
        "data_dir = \"/from/file\"\n[http]\nlisten = \"127.0.0.1:1\"\nmax_body_bytes = 2048\n[sip]\nthreads = 3\n";
    let variables = [("TRUNKLINE_HTTP_LISTEN", "127.0.0.1:2"), ("TRUNKLINE_DATA_DIR", "/from/env"), ("HOME", "/")];
    let flags = ServeFlags { http: Some("127.0.0.1:3".parse().unwrap()), ..ServeFlags::default() };
    let settings = with_file(file, &variables, flags).unwrap();
    assert_eq!(settings.http.listen.port(), 3);
    assert_eq!(settings.data_dir, PathBuf::from("/from/env"));
    assert_eq!((settings.http.max_body_bytes, settings.sip.threads), (2048, 3));
    assert_eq!(settings.sip.setup_timeout_ms, Settings::default().sip.setup_timeout_ms);
}

#[test]
fn every_key_has_a_variable_and_lists_take_commas() {
    let variables = [
        ("TRUNKLINE_SIP_LISTEN", "udp:127.0.0.1:1, tls:[::1]:2"),
        ("TRUNKLINE_TLS_CERTIFICATE", "a.crt"),
        ("TRUNKLINE_TLS_KEY", "a.key"),
        ("TRUNKLINE_SIP_ALLOW", "192.0.2.0/24,10.0.0.1"),
    ];
    let settings = with_file("", &variables, ServeFlags::default()).unwrap();
    let listens: Vec<String> = settings.sip.listen.iter().map(|l| format!("{}:{}", l.transport, l.address)).collect();
    assert_eq!(listens, ["udp:127.0.0.1:1", "tls:[::1]:2"]);
    assert_eq!(settings.sip.allow, ["192.0.2.0/24".parse::<IpNet>().unwrap(), "10.0.0.1/32".parse().unwrap()]);
    let names: std::collections::HashSet<String> = values::KEYS.iter().map(values::Key::variable).collect();
    assert_eq!(names.len(), values::KEYS.len());
}

#[test]
fn errors_say_where_and_what_was_expected() {
    let error = |file: &str, variables: &[(&str, &str)]| with_file(file, variables, ServeFlags::default()).unwrap_err();
    assert_eq!(
        error("\n[lease]\nderegister = 1\n", &[]),
        "t.toml:3: unknown key \"deregister\" in [lease]; expected one of deregister_after_seconds"
    );
    assert_eq!(
        error("[http]\nlisten = 8080\n", &[]),
        "t.toml:2: listen: expected an address such as \"127.0.0.1:8080\", found 8080"
    );
    assert_eq!(
        error("[sip]\n\nallow = [\"nowhere\"]\n", &[]),
        "t.toml:3: allow: expected a list of networks such as \"192.0.2.0/24\", found [\"nowhere\"]"
    );
    assert!(error("lisen = 1\n", &[]).starts_with("t.toml:1: unknown key \"lisen\"; expected one of data_dir, [http]"));
    assert!(error("[http]\nlisten = \n", &[]).starts_with("t.toml:2: "));
    assert_eq!(
        error("", &[("TRUNKLINE_SIP_THREADS", "many")]),
        "TRUNKLINE_SIP_THREADS: expected a whole number, 1 to 64, found \"many\""
    );
    assert!(
        error("", &[("TRUNKLINE_HTTP_LISEN", "x")])
            .starts_with("TRUNKLINE_HTTP_LISEN: unknown variable; expected one of")
    );
    assert_eq!(
        error("[records]\nkeep = 1\n", &[]),
        "t.toml:2: unknown key \"keep\" in [records]; expected one of enabled, directory, rotate_bytes, rotate_seconds, \
         keep_files, keep_bytes, max_bytes, [records.postgres], [records.webhook]"
    );
    assert_eq!(
        error("[records.postgres]\n\ntable = \"a b\"\n", &[]),
        "t.toml:3: table: expected a table such as \"call_records\" or \"billing.call_records\", in lower case, found \"a b\""
    );
    assert!(error("[log]\nlevel = \"loud\"", &[]).contains("expected error, warn, info"));
}

#[test]
fn http_beyond_loopback_must_be_wanted_in_words() {
    let refused = with_file("[http]\nlisten = \"0.0.0.0:80\"", &[], ServeFlags::default()).unwrap_err();
    assert!(refused.contains("unauthenticated_beyond_loopback"), "{refused}");
    let wanted = "[http]\nlisten = \"0.0.0.0:80\"\nunauthenticated_beyond_loopback = true";
    assert!(with_file(wanted, &[], ServeFlags::default()).is_ok());
}

#[test]
fn a_wildcard_address_needs_one_to_advertise() {
    let refused = with_file("[sip]\nlisten = [\"udp:0.0.0.0:5060\"]", &[], ServeFlags::default()).unwrap_err();
    assert!(refused.contains("sip.advertise"), "{refused}");
    let told = "[sip]\nlisten = [\"udp:0.0.0.0:5060\"]\nadvertise = \"sip.example.net\"";
    assert!(with_file(told, &[], ServeFlags::default()).is_ok());
}

#[test]
fn tls_needs_its_certificate() {
    let refused = |file: &str| with_file(file, &[], ServeFlags::default()).unwrap_err();
    assert_eq!(
        refused("[sip]\nlisten = [\"tls:127.0.0.1:5061\"]"),
        "sip.listen: tls needs tls.certificate and tls.key"
    );
    assert!(refused("[tls]\ncertificate = \"a.crt\"").contains("both or neither"));
    assert!(refused("[tls]\nrequire_client = true").contains("tls.client_authorities"));
}

#[test]
fn secrets_are_shown_nowhere() {
    let bad = [
        (
            "[records.postgres]\nurl = \"postgres://u:hidden@/\"",
            "TRUNKLINE_RECORDS_POSTGRES_URL",
            "ftp://u:hidden@db/d",
        ),
        ("[records.webhook]\nurl = \"https://u:hidden@a/\"", "TRUNKLINE_RECORDS_WEBHOOK_URL", "a.example/hidden"),
        ("[records.webhook]\ntoken = \"hid den\"", "TRUNKLINE_RECORDS_WEBHOOK_TOKEN", "hidden\n"),
    ];
    for (file, variable, value) in bad {
        for error in [
            with_file(file, &[], ServeFlags::default()).unwrap_err(),
            with_file("", &[(variable, value)], ServeFlags::default()).unwrap_err(),
        ] {
            assert!(error.contains("expected a") && !error.contains("hid"), "{error}");
        }
    }
    let good = "[records.postgres]\nurl = \"postgres://u:hidden@db.example.net/d\"\n[records.webhook]\n\
                url = \"https://a.example/hidden\"\ntoken = \"hidden\"";
    let settings = with_file(good, &[], ServeFlags::default()).unwrap();
    assert!(settings.records.postgres.is_some() && settings.records.webhook_token.is_some());
    assert!(!format!("{settings:?}").contains("hidden"));
}

#[test]
fn records_need_what_their_deliveries_need() {
    let refused = |file: &str| with_file(&format!("[records]\n{file}"), &[], ServeFlags::default()).unwrap_err();
    let webhook = "[records.webhook]\nurl = \"https://a.example/\"\n";
    assert!(refused(&format!("enabled = false\n{webhook}")).contains("records.enabled"));
    assert!(refused(&format!("{webhook}token = \"a\"\ntoken_file = \"b\"")).contains("expected one of them"));
    assert!(refused("[records.webhook]\ntoken_file = \"b\"").contains("records.webhook.url"));
    assert!(refused("keep_bytes = 5_000_000_000").contains("records.max_bytes"));
    assert!(refused("rotate_bytes = 3_000_000_000").contains("records.max_bytes"));
    let off = with_file("[records]\nenabled = false", &[], ServeFlags::default()).unwrap();
    assert_eq!(off.records.settings(&off.data_dir), None);
    let on = with_file("data_dir = \"/d\"", &[], ServeFlags::default()).unwrap();
    assert_eq!(on.records.settings(&on.data_dir), Some(::records::Settings::new("/d/records".into())));
}
