//! PEM files, and what is wrong with one that does not hold what it should.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};

/// LIMIT: no chain, and no list of who is trusted, is nearly this long, and a wrong file must not fill the memory. Lists of what is revoked
/// are.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What a file is to hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Certificate,
    Key,
    Revoked,
}

/// Reads a file. An error is a sentence that names it.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let refuse = |why: String, instead: &str| Err(format!("{} {why}; {instead}", path.display()));
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => {
            refuse("is not there".to_owned(), "create it, or correct the path; a relative one lies in the home")
        }
        _ => refuse(
            format!("cannot be read: {error}"),
            "let the user that Serval runs as read it, and the folders above it",
        ),
    };
    // Looked at first: opening a named pipe would wait for ever.
    match fs::metadata(path) {
        Err(error) => return unreadable(error),
        Ok(found) if !found.is_file() => return refuse("is not a file".to_owned(), "name a file of PEM"),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    match fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)) {
        Err(error) => unreadable(error),
        Ok(len) if len as u64 > FILE_BYTES_MAX => refuse("is larger than 16MiB".to_owned(), "name a file of PEM"),
        Ok(_) => Ok(bytes),
    }
}

/// Returns all of one kind in a file, never none. An error is a sentence.
pub fn sections<T: PemObject>(path: &Path, bytes: &[u8], kind: Kind) -> Result<Vec<T>, String> {
    let text = String::from_utf8_lossy(bytes);
    if kind == Kind::Key
        && ["BEGIN ENCRYPTED PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED"].iter().any(|label| text.contains(label))
    {
        let file = path.display();
        return Err(format!(
            "{file} is a key with a passphrase, which nobody is there to type; write it without: openssl pkey -in {file} -out key.pem"
        ));
    }
    let all: Result<Vec<T>, pem::Error> = T::pem_slice_iter(bytes).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(format!("{} {}", path.display(), instead_of(path, (bytes, &text), kind))),
        Err(error) => {
            let why = match error {
                pem::Error::MissingSectionEnd { end_marker } => {
                    format!("its line `-----END {}-----` is missing", String::from_utf8_lossy(&end_marker).trim())
                }
                // The line may be of a key.
                pem::Error::IllegalSectionStart { .. } => "a line that begins a section is broken".to_owned(),
                error => error.to_string(),
            };
            Err(format!("{} is no whole PEM: {why}; write the whole file", path.display()))
        }
    }
}

/// Says what a file without the wanted is, and what to do.
fn instead_of(path: &Path, (bytes, text): (&[u8], &str), kind: Kind) -> String {
    let file = path.display();
    let has = |label: &str| text.contains(label);
    let (wanted, der) = match kind {
        Kind::Certificate => ("certificate", format!("openssl x509 -inform DER -in {file} -out cert.pem")),
        Kind::Key => ("key", format!("openssl pkey -inform DER -in {file} -out key.pem")),
        Kind::Revoked => ("list of revoked certificates", format!("openssl crl -inform DER -in {file} -out crl.pem")),
    };
    match kind {
        _ if bytes.is_empty() => format!("is empty; write the {wanted} into it, in PEM"),
        Kind::Key if has("BEGIN CERTIFICATE-----") => {
            "holds a certificate, but no key; name the file of the key, or have `certificate` and `key` change places".to_owned()
        }
        Kind::Certificate if has("PRIVATE KEY-----") => {
            "holds a key, but no certificate; name the file of the certificate, or have `certificate` and `key` change places"
                .to_owned()
        }
        Kind::Certificate if has("BEGIN CERTIFICATE REQUEST-----") => {
            "holds a request for a certificate; name the certificate that was given for it".to_owned()
        }
        // The first byte of all that these are in DER.
        _ if bytes[0] == 0x30 => format!("is DER, but PEM is needed: {der}"),
        _ => format!("holds no {wanted} in PEM; name the file that does"),
    }
}
