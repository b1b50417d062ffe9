//! `[listener.tls]`, and the keys of a `[[listener]]` that send clients to TLS: `https_redirect_port` and `hsts`.
//!
//! What stands in the certificates is not looked at here: a pair that is half written must not refuse the configuration. The files are
//! named to who watches them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::problem::quoted;
use crate::raw::{Table, Text};
use crate::server::{folder, host_name};
use crate::value::is_token;

/// Holds one `[listener.tls]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// `certificate` and `key`, then `[[listener.tls.certificates]]`, then those that lay in `folder`, by their names. The first one is
    /// for clients that name no host, or one that none is for. Empty only if `folder` is there, and holds none.
    pub certificates: Vec<CertificateFiles>,
    /// `folder`: each folder NAME in it with a `cert.pem` and a `key.pem` is a certificate; absolute.
    pub folder: Option<PathBuf>,
    /// `versions`: never empty, in ascending order; default both.
    pub versions: Vec<TlsVersion>,
    /// `client_certificate`: whether clients are asked for one; default no.
    pub client_certificate: ClientCertificate,
    /// `client_ca`: a PEM file, absolute; it is there if clients are asked.
    pub client_ca: Option<PathBuf>,
    /// `client_crl`: a PEM file, absolute.
    pub client_crl: Option<PathBuf>,
    /// `tickets`: clients may resume, unless they are asked for certificates; default true.
    pub tickets: bool,
    /// `strict_sni`: a request for a host that has another certificate than the one of its connection is 421; default true.
    pub strict_sni: bool,
}

/// Holds the two files of a certificate; absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the certificate, and those between it and one that clients know.
    pub certificate: PathBuf,
    /// PEM: its key, without a passphrase.
    pub key: PathBuf,
    /// `names` in lower case; `*.example.com` stands for one more label. None: those in the certificate.
    pub names: Option<Vec<String>>,
    /// No key names it: it lay in the folder.
    pub of_folder: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

impl TlsVersion {
    /// Returns it as it is written.
    pub fn name(self) -> &'static str {
        match self {
            TlsVersion::V1_2 => "1.2",
            TlsVersion::V1_3 => "1.3",
        }
    }
}

/// Whether a client is asked for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    No,
    /// It is, and may have none. One that it sends must be good.
    Optional,
    Required,
}

/// LIMIT: certificates of one folder; each is read again when one of them changes.
const FOLDER_CERTIFICATES_MAX: usize = 10_000;

/// The names of the two files in a folder of `folder`.
const IN_FOLDER: (&str, &str) = ("cert.pem", "key.pem");

/// Returns `[listener.tls]`, if it is there.
pub(crate) fn tls(listener: &Table<'_, '_>, home: &Path) -> Option<Tls> {
    const CLIENTS: [(&str, ClientCertificate); 3] = [
        ("none", ClientCertificate::No),
        ("optional", ClientCertificate::Optional),
        ("required", ClientCertificate::Required),
    ];
    let table = listener.table("tls")?;
    let mut certificates: Vec<CertificateFiles> = Vec::new();
    certificates.extend(pair(&table, home));
    for inner in table.tables("certificates").unwrap_or_default() {
        let names = names(&inner);
        let found = pair(&inner, home);
        if found.is_none() && inner.holds_none("certificate") && inner.holds_none("key") {
            let instead =
                "write its files, as in `certificate = \"conf/tls/cert.pem\"` and `key = \"conf/tls/key.pem\"`";
            inner.document.problem(inner.at, format!("{} has no `certificate`", inner.name), instead);
        }
        inner.finish();
        certificates.extend(found.map(|found| CertificateFiles { names, ..found }));
    }
    let folder = folder(&table, ("folder", "conf/tls"), home);
    if let Some(folder) = &folder {
        certificates.extend(in_folder(&table, folder));
    }
    let names_any = ["certificate", "key", "certificates", "folder"].iter().any(|key| !table.holds_none(key));
    if !names_any {
        let instead = "write `certificate = \"conf/tls/cert.pem\"` and `key = \"conf/tls/key.pem\"`, or `folder = \"conf/tls\"`; \
                       `serval cert self-signed localhost` makes one for development";
        table.document.problem(table.at, format!("{} has no certificate", table.name), instead);
    }
    let client_certificate = table.choice("client_certificate", &CLIENTS);
    let (client_ca, client_crl) = (file(&table, "client_ca", home), file(&table, "client_crl", home));
    if client_certificate != ClientCertificate::No && table.place_of("client_ca").is_none() {
        let what = format!("`client_certificate` in {} needs a `client_ca`", table.name);
        let instead = "write the file of those who sign them, as in `client_ca = \"conf/tls/clients.pem\"`";
        table.document.problem(table.place_of("client_certificate"), what, instead);
    }
    let tls = Tls {
        certificates,
        folder,
        versions: versions(&table),
        client_certificate,
        client_ca,
        client_crl,
        tickets: table.flag("tickets", true),
        strict_sni: table.flag("strict_sni", true),
    };
    table.finish();
    Some(tls)
}

/// `certificate` and `key`, which come together.
fn pair(table: &Table<'_, '_>, home: &Path) -> Option<CertificateFiles> {
    let (certificate, key) = (file(table, "certificate", home), file(table, "key", home));
    for (one, other, example) in
        [("certificate", "key", "conf/tls/key.pem"), ("key", "certificate", "conf/tls/cert.pem")]
    {
        if table.place_of(one).is_some() && table.place_of(other).is_none() {
            let what = format!("`{one}` in {} comes without its `{other}`", table.name);
            let instead = format!("write its file, as in `{other} = \"{example}\"`; both may be one file");
            table.document.problem(table.place_of(one), what, instead);
        }
    }
    Some(CertificateFiles { certificate: certificate?, key: key?, names: None, of_folder: false })
}

/// Returns the absolute path of a file, if the key is there, which the settings depend on.
fn file(table: &Table<'_, '_>, key: &'static str, home: &Path) -> Option<PathBuf> {
    let example = match key {
        "certificate" => "conf/tls/cert.pem",
        "key" => "conf/tls/key.pem",
        "client_crl" => "conf/tls/revoked.pem",
        _ => "conf/tls/clients.pem",
    };
    let text = table.text(key, "a string", &format!("\"{example}\""))?;
    if text.value.is_empty() {
        table.wrong(&text, key, "is not a file", format!("write its path, as in `{key} = \"{example}\"`"));
        return None;
    }
    if text.value.contains("-----BEGIN") {
        // Not the value, which may be a key.
        let what = format!("`{key}` in {} holds PEM, but the name of a file is needed", table.name);
        table.document.problem(Some(text.at), what, format!("write its path, as in `{key} = \"{example}\"`"));
        return None;
    }
    let path = home.join(&text.value);
    table.document.depends_on(&path);
    Some(path)
}

fn names(table: &Table<'_, '_>) -> Option<Vec<String>> {
    let texts = table.texts("names", "[\"www.example.com\"]")?;
    if texts.is_empty() {
        let instead = "write such as `names = [\"www.example.com\"]`, or leave it out for those in the certificate";
        table.document.problem(table.place_of("names"), format!("`names` in {} is empty", table.name), instead);
    }
    Some(texts.iter().map(|text| host_name(table, "names", text)).collect())
}

fn in_folder(table: &Table<'_, '_>, folder: &Path) -> Vec<CertificateFiles> {
    table.document.depends_on(folder);
    let at = table.place_of("folder");
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            let what = format!("`folder` in {}: {} cannot be read: {error}", table.name, shown(folder));
            table.document.problem(at, what, "create it, or let the user that Serval runs as read it");
            return Vec::new();
        }
    };
    // What begins with a dot is being written, or is of the system.
    let is_seen = |path: &PathBuf| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."));
    let folders: BTreeSet<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| is_seen(path) && may_be_folder(path)).collect();
    if folders.len() > FOLDER_CERTIFICATES_MAX {
        let what = format!("`folder` in {}: {} has {} folders", table.name, shown(folder), folders.len());
        table.document.problem(at, what, format!("leave {FOLDER_CERTIFICATES_MAX} at most in it"));
        return Vec::new();
    }
    let mut certificates = Vec::new();
    for inner in folders {
        let (certificate, key) = (inner.join(IN_FOLDER.0), inner.join(IN_FOLDER.1));
        [&certificate, &key].into_iter().for_each(|file| table.document.depends_on(file));
        // A folder with neither is none of ours.
        if [&certificate, &key].into_iter().any(|file| !matches!(file.try_exists(), Ok(false))) {
            certificates.push(CertificateFiles { certificate, key, names: None, of_folder: true });
        }
    }
    certificates
}

/// What cannot be looked at may be there: only what is known to be something else, or gone, is not taken.
fn may_be_folder(path: &Path) -> bool {
    path.metadata().map_or_else(|error| error.kind() != std::io::ErrorKind::NotFound, |found| found.is_dir())
}

fn shown(path: &Path) -> String {
    quoted(&path.display().to_string())
}

fn versions(table: &Table<'_, '_>) -> Vec<TlsVersion> {
    let both = vec![TlsVersion::V1_2, TlsVersion::V1_3];
    let Some(texts) = table.texts("versions", "[\"1.2\", \"1.3\"]") else { return both };
    let mut versions = BTreeSet::new();
    for text in &texts {
        match both.iter().find(|version| version.name() == text.value) {
            Some(version) => drop(versions.insert(*version)),
            None => table.wrong(text, "versions", "is no version of TLS that is spoken", "write \"1.2\" or \"1.3\""),
        }
    }
    if texts.is_empty() {
        let what = format!("`versions` in {} is empty", table.name);
        table.document.problem(table.place_of("versions"), what, "write such as `versions = [\"1.2\", \"1.3\"]`");
    }
    versions.into_iter().collect()
}

/// Returns `https_redirect_port`: None (0 in the file): plain requests are answered. `is_secure`: there are none.
pub(crate) fn https_redirect_port(table: &Table<'_, '_>, is_secure: bool) -> Option<u16> {
    let port = table.count("https_redirect_port", 0, 0..=65_535) as u16;
    if port != 0 && is_secure {
        let instead = "write it at the listener of port 80: all requests of this one count as https";
        let what = format!("`https_redirect_port` in {} would redirect nothing", table.name);
        table.document.problem(table.place_of("https_redirect_port"), what, instead);
    }
    Some(port).filter(|port| *port != 0)
}

/// Returns `hsts`: None (`""` in the file): the header is not sent. `is_secure`: all requests are by https.
pub(crate) fn hsts(table: &Table<'_, '_>, is_secure: bool) -> Option<String> {
    const EXAMPLE: &str = "\"max-age=31536000\"";
    let text = table.text("hsts", "a string", EXAMPLE)?;
    if text.value.is_empty() {
        return None;
    }
    if let Err(why) = check_hsts(&text) {
        table.wrong(&text, "hsts", why, format!("write such as `hsts = {EXAMPLE}`, with the seconds of a year"));
        return None;
    }
    if !is_secure {
        let instead =
            "write it at the listener with [listener.tls], or with `secure = true`: browsers take it by https alone";
        table.document.problem(Some(text.at), format!("`hsts` in {} would never be sent", table.name), instead);
    }
    Some(text.value)
}

/// RFC 6797 6.1: directives, each once, of which `max-age` is needed.
fn check_hsts(text: &Text) -> Result<(), &'static str> {
    let mut names = BTreeSet::new();
    for directive in text.value.split(';').map(str::trim).filter(|directive| !directive.is_empty()) {
        let (name, value) = directive.split_once('=').map_or((directive, None), |(name, value)| (name, Some(value)));
        let name = name.trim_end().to_ascii_lowercase();
        let bare = value.map(|value| value.trim_start().trim_matches('"'));
        match (&*name, bare) {
            ("max-age", Some(value)) if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {}
            ("max-age", _) => return Err("has no number of seconds as its `max-age`"),
            ("includesubdomains" | "preload", Some(_)) => return Err("has a value where none is known"),
            (name, value) if !is_token(name) || value.is_some_and(|value| !is_token(value)) => {
                return Err("is not the value of Strict-Transport-Security");
            }
            _ => {}
        }
        if !names.insert(name) {
            return Err("has a directive twice");
        }
    }
    names.contains("max-age").then_some(()).ok_or("has no `max-age`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::{check, good};

    fn of(toml: &str) -> Tls {
        let listener = good(&format!("[[listener]]\n[listener.tls]\n{toml}")).listeners.remove(0);
        Tls::clone(listener.tls.as_ref().expect("TLS"))
    }

    fn files(certificate: &str, key: &str) -> CertificateFiles {
        let (certificate, key) = (Path::new("HOME").join(certificate), Path::new("HOME").join(key));
        CertificateFiles { certificate, key, names: None, of_folder: false }
    }

    #[test]
    fn its_presence_switches_it_on() {
        assert_eq!(good("[[listener]]").listeners[0].tls, None);
        let tls = of("certificate = \"a.pem\"\nkey = \"b.pem\"");
        let expected = Tls {
            certificates: vec![files("a.pem", "b.pem")],
            folder: None,
            versions: vec![TlsVersion::V1_2, TlsVersion::V1_3],
            client_certificate: ClientCertificate::No,
            client_ca: None,
            client_crl: None,
            tickets: true,
            strict_sni: true,
        };
        assert_eq!(tls, expected);
    }

    #[test]
    fn everything_set() {
        let tls = of(r#"
            certificate = "a.pem"
            key = "/etc/b.pem"
            folder = "conf/tls"
            versions = ["1.3", "1.3"]
            client_certificate = "required"
            client_ca = "ca.pem"
            client_crl = "crl.pem"
            tickets = false
            strict_sni = false
            [[listener.tls.certificates]]
            certificate = "c.pem"
            key = "c.pem"
            names = ["Shop.example.com", "*.shop.example.com"]
            [[listener.tls.certificates]]
            certificate = "d.pem"
            key = "d.key"
            "#);
        let names = Some(vec!["shop.example.com".to_owned(), "*.shop.example.com".to_owned()]);
        let in_folder = |name: &str| CertificateFiles {
            of_folder: true,
            ..files(&format!("conf/tls/{name}/cert.pem"), &format!("conf/tls/{name}/key.pem"))
        };
        let expected = Tls {
            certificates: vec![
                files("a.pem", "/etc/b.pem"),
                CertificateFiles { names, ..files("c.pem", "c.pem") },
                files("d.pem", "d.key"),
                in_folder("one"),
                in_folder("two"),
            ],
            folder: Some("HOME/conf/tls".into()),
            versions: vec![TlsVersion::V1_3],
            client_certificate: ClientCertificate::Required,
            client_ca: Some("HOME/ca.pem".into()),
            client_crl: Some("HOME/crl.pem".into()),
            tickets: false,
            strict_sni: false,
        };
        assert_eq!(tls, expected);
        let redirected = good("[[listener]]\nhttps_redirect_port = 443").listeners.remove(0);
        assert_eq!((redirected.https_redirect_port, redirected.hsts), (Some(443), None));
        let hsts = good("[[listener]]\nsecure = true\nhsts = \"Max-Age=1; includeSubDomains;preload\"").listeners;
        assert_eq!(hsts[0].hsts.as_deref(), Some("Max-Age=1; includeSubDomains;preload"));
        assert_eq!(good("[[listener]]\nhsts = \"\"").listeners[0].hsts, None);
    }

    #[test]
    fn problems() {
        check(
            r#"
[[listener]]
address = "127.0.0.1:0"
tls = true
[[listener]]
address = "127.0.0.1:0"
[listener.tls]
[[listener]]
address = "127.0.0.1:0"
[listener.tls]
certificate = "a.pem"
versions = ["1.1", "TLSv1.3"]
client_certificate = "require"
client_ca = ""
client_crl = 3
tickets = "no"
strict_sny = true
[[listener.tls.certificates]]
key = "-----BEGIN PRIVATE KEY-----\nMIIB"
names = ["a b"]
[[listener.tls.certificates]]
names = []
[[listener]]
address = "127.0.0.1:0"
[listener.tls]
folder = "nowhere"
versions = []
client_certificate = "optional"
[[listener]]
address = "127.0.0.1:0"
[listener.tls]
folder = "file"
----
server.toml:4:7: `tls` in [[listener]] is a boolean, but a table is needed; write [listener.tls], and its keys below it
server.toml:7:1: [listener.tls] has no certificate; write `certificate = "conf/tls/cert.pem"` and `key = "conf/tls/key.pem"`, or `folder = "conf/tls"`; `serval cert self-signed localhost` makes one for development
server.toml:11:15: `certificate` in [listener.tls] comes without its `key`; write its file, as in `key = "conf/tls/key.pem"`; both may be one file
server.toml:12:13: `versions` in [listener.tls]: `1.1` is no version of TLS that is spoken; write "1.2" or "1.3"
server.toml:12:20: `versions` in [listener.tls]: `TLSv1.3` is no version of TLS that is spoken; write "1.2" or "1.3"
server.toml:13:22: `client_certificate` in [listener.tls]: `require` is not known; did you mean `required`?
server.toml:14:13: `client_ca` in [listener.tls]: `""` is not a file; write its path, as in `client_ca = "conf/tls/clients.pem"`
server.toml:15:14: `client_crl` in [listener.tls] is the number `3`, but a string is needed; write for example `client_crl = "conf/tls/revoked.pem"`
server.toml:16:11: `tickets` in [listener.tls] is the string `no`, but true or false is needed; write for example `tickets = true`
server.toml:17:1: unknown key `strict_sny` in [listener.tls]; did you mean `strict_sni`?
server.toml:19:7: `key` in [[listener.tls.certificates]] holds PEM, but the name of a file is needed; write its path, as in `key = "conf/tls/key.pem"`
server.toml:19:7: `key` in [[listener.tls.certificates]] comes without its `certificate`; write its file, as in `certificate = "conf/tls/cert.pem"`; both may be one file
server.toml:20:10: `names` in [[listener.tls.certificates]]: `a b` is not the name of a host; write a name without port and path, as in `www.example.com`
server.toml:21:1: [[listener.tls.certificates]] has no `certificate`; write its files, as in `certificate = "conf/tls/cert.pem"` and `key = "conf/tls/key.pem"`
server.toml:22:9: `names` in [[listener.tls.certificates]] is empty; write such as `names = ["www.example.com"]`, or leave it out for those in the certificate
server.toml:26:10: `folder` in [listener.tls]: `HOME/nowhere` cannot be read: No such file or directory (os error 2); create it, or let the user that Serval runs as read it
server.toml:27:12: `versions` in [listener.tls] is empty; write such as `versions = ["1.2", "1.3"]`
server.toml:28:22: `client_certificate` in [listener.tls] needs a `client_ca`; write the file of those who sign them, as in `client_ca = "conf/tls/clients.pem"`
server.toml:32:10: `folder` in [listener.tls]: `file` is a file, but a folder is needed; name another one
"#,
        );
    }

    #[test]
    fn the_way_to_tls() {
        let tls = "[listener.tls]\ncertificate = \"a.pem\"\nkey = \"a.pem\"";
        check(&format!(
            r#"
[[listener]]
address = "127.0.0.1:0"
https_redirect_port = 443
hsts = "max-age"
{tls}
[[listener]]
address = "127.0.0.1:0"
https_redirect_port = 65536
hsts = "max-age=31536000"
[[listener]]
address = "127.0.0.1:0"
secure = true
https_redirect_port = 443
hsts = "includeSubDomains"
[[listener]]
address = "127.0.0.1:0"
hsts = "max-age=1; max-age=2"
[[listener]]
address = "127.0.0.1:0"
hsts = "max-age=1, preload"
[[listener]]
address = "127.0.0.1:0"
hsts = "max-age=1; preload=yes"
[[listener]]
address = "127.0.0.1:0"
hsts = "max-age=1; é"
----
server.toml:4:23: `https_redirect_port` in [[listener]] would redirect nothing; write it at the listener of port 80: all requests of this one count as https
server.toml:5:8: `hsts` in [[listener]]: `max-age` has no number of seconds as its `max-age`; write such as `hsts = "max-age=31536000"`, with the seconds of a year
server.toml:11:23: `https_redirect_port` in [[listener]]: `65536` is out of bounds; write 0 to 65535, as in `https_redirect_port = 0`
server.toml:12:8: `hsts` in [[listener]] would never be sent; write it at the listener with [listener.tls], or with `secure = true`: browsers take it by https alone
server.toml:16:23: `https_redirect_port` in [[listener]] would redirect nothing; write it at the listener of port 80: all requests of this one count as https
server.toml:17:8: `hsts` in [[listener]]: `includeSubDomains` has no `max-age`; write such as `hsts = "max-age=31536000"`, with the seconds of a year
server.toml:20:8: `hsts` in [[listener]]: `max-age=1; max-age=2` has a directive twice; write such as `hsts = "max-age=31536000"`, with the seconds of a year
server.toml:23:8: `hsts` in [[listener]]: `max-age=1, preload` has no number of seconds as its `max-age`; write such as `hsts = "max-age=31536000"`, with the seconds of a year
server.toml:26:8: `hsts` in [[listener]]: `max-age=1; preload=yes` has a value where none is known; write such as `hsts = "max-age=31536000"`, with the seconds of a year
server.toml:29:8: `hsts` in [[listener]]: `max-age=1; é` is not the value of Strict-Transport-Security; write such as `hsts = "max-age=31536000"`, with the seconds of a year
"#
        ));
    }
}
