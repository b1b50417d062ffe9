//! `serval cert self-signed NAME...`: a certificate for development, which no client trusts until it is told to.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use time::{Duration, OffsetDateTime};

/// A certificate of a longer life is refused by some clients, though they were told to trust it.
const DAYS_MAX: u32 = 825;

#[derive(Subcommand)]
pub enum Command {
    /// Make a certificate that clients have to be told to trust, for development
    SelfSigned(SelfSigned),
}

#[derive(Args)]
pub struct SelfSigned {
    /// The names of the host, or its addresses: localhost, *.example.com, 127.0.0.1
    #[arg(required = true)]
    names: Vec<String>,
    /// Where a folder with the first name is made, with cert.pem and key.pem [default: conf/tls of the home]
    #[arg(long)]
    out: Option<PathBuf>,
    /// How many days it is good, 1 to 825
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=DAYS_MAX as i64))]
    days: u32,
    /// Replace one that is there
    #[arg(long)]
    force: bool,
}

/// `home`: the folder above `conf/`.
pub fn run(arguments: &SelfSigned, home: &Path) -> ExitCode {
    match make(arguments, home) {
        Ok(folder) => {
            let said = say(arguments, &folder, home);
            drop(io::stdout().write_all(said.as_bytes()));
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the folder of the two files, or a sentence.
fn make(arguments: &SelfSigned, home: &Path) -> Result<PathBuf, String> {
    let mut names = Vec::new();
    for name in &arguments.names {
        names.push(good_name(name).ok_or_else(|| {
            let instead = if name.is_ascii() {
                "write such as localhost or www.example.com"
            } else {
                "write it in its xn-- form"
            };
            format!("{name:?} is not the name of a host, nor an address; {instead}")
        })?);
    }
    let (certificate, key) = generate(&names, arguments.days)
        .map_err(|error| format!("a certificate for {} cannot be made: {error}", names.join(", ")))?;
    let out = arguments.out.clone().unwrap_or_else(|| home.join("conf/tls"));
    let folder = out.join(names[0].replace('*', "_"));
    let failed = |path: &Path, error: io::Error| format!("{} cannot be written: {error}", path.display());
    fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder).map_err(|error| failed(&folder, error))?;
    let (certificate_file, key_file) = (folder.join("cert.pem"), folder.join("key.pem"));
    for file in [&certificate_file, &key_file] {
        if !arguments.force && file.symlink_metadata().is_ok() {
            return Err(format!(
                "{} is there already; replace it with --force, or write elsewhere with --out",
                file.display()
            ));
        }
    }
    // The key first: a server that watches them takes the two when both fit.
    write(&key_file, &key, 0o600).map_err(|error| failed(&key_file, error))?;
    write(&certificate_file, &certificate, 0o644).map_err(|error| failed(&certificate_file, error))?;
    Ok(folder)
}

fn good_name(name: &str) -> Option<String> {
    if name.parse::<IpAddr>().is_ok() {
        return Some(name.to_owned());
    }
    let lower = name.to_ascii_lowercase();
    let is_good = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    (lower.len() <= 253 && lower.strip_prefix("*.").unwrap_or(&lower).split('.').all(is_good)).then_some(lower)
}

/// Returns certificate and key as PEM.
fn generate(names: &[String], days: u32) -> Result<(String, String), rcgen::Error> {
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name = DistinguishedName::new();
    // A longer one is no common name (RFC 5280 A.1), and nobody reads it where there are others.
    let common_name = if names[0].len() <= 64 { names[0].as_str() } else { "serval" };
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    // The clock of a client may be behind ours.
    parameters.not_before = OffsetDateTime::now_utc() - Duration::hours(1);
    parameters.not_after = OffsetDateTime::now_utc() + Duration::days(days.into());
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Writes a file beside, and puts it in its place, so that nobody reads a part of it, or a key with other permissions.
fn write(file: &Path, text: &str, mode: u32) -> io::Result<()> {
    let beside = file.with_extension(format!("pem.{}", std::process::id()));
    let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside).and_then(|mut to| {
        to.write_all(text.as_bytes())?;
        fs::rename(&beside, file)
    });
    if written.is_err() {
        drop(fs::remove_file(&beside));
    }
    written
}

fn say(arguments: &SelfSigned, folder: &Path, home: &Path) -> String {
    let written = folder.strip_prefix(home).unwrap_or(folder);
    let shown = std::path::absolute(written).ok().filter(|_| arguments.out.is_some() && written == folder);
    let written = shown.as_deref().unwrap_or(written).display();
    format!(
        "{folder}/cert.pem and key.pem are good for {days} days. In server.toml, write:\n\n\
         [[listener]]\naddress = \"127.0.0.1:8443\"\n[listener.tls]\ncertificate = \"{written}/cert.pem\"\nkey = \"{written}/key.pem\"\n\n\
         Clients have to be told to trust it: curl --cacert {folder}/cert.pem https://...\n",
        folder = folder.display(),
        days = arguments.days,
    )
}
