//! The bytes of a snapshot: what sessions are while no server runs.
//!
//! All numbers are little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | [`MAGIC`] |
//! | 4 | [`VERSION`] |
//! | 8 | when it was written, in milliseconds since 1970 |
//! | | the sessions |
//! | 8 | how many sessions there are |
//! | 4 | CRC-32 of all before |
//!
//! A session is its id; when it was created and accessed (8 each, since 1970), how long it has lain unused and may lie (8 each, of which the
//! second may be [`NEVER`]), all in milliseconds; whether it is new (1); how many attributes it has (4), and of each the name and the value.
//! Ids, names and values are preceded by their length (4).
//!
//! What is read may be anything: no length is believed before its bytes are
//! there, and nothing is taken unless all of it is right.

use std::io::{self, Read, Write};
use std::time::Duration;

use bytes::Bytes;
use crc32fast::Hasher;

use crate::sessions::{ATTRIBUTES_MAX, Saved};

const MAGIC: [u8; 8] = *b"SVSESSN\n";
/// Counts up with each change of the format.
const VERSION: u32 = 1;
const NEVER: u64 = u64::MAX;

/// Behind the sessions.
const TAIL_BYTES: u64 = 8 + 4;
/// LIMIT: bytes of an id, a name, or a value: the most that `session_bytes_max` may be.
const BYTES_MAX: u32 = 64 * 1024 * 1024;

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Damaged {
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("it does not begin as a snapshot of sessions")]
    Foreign,
    #[error(
        "it is of version {0} of the format, and this Serval knows version {VERSION}: a later Serval has written it"
    )]
    Later(u32),
    #[error("it ends too early")]
    Short,
    #[error("its checksum is wrong")]
    Checksum,
    #[error("{0}")]
    Wrong(&'static str),
}

pub struct Snapshot {
    /// Milliseconds since 1970.
    pub written: i64,
    pub sessions: Vec<Saved>,
}

/// Writes all of it, and says how many sessions it has. Small pieces: the writer should be buffered.
pub fn write(to: &mut impl Write, written: i64, sessions: impl Iterator<Item = Saved>) -> io::Result<u64> {
    let mut to = Summed { inner: to, sum: Hasher::new() };
    to.write_all(&MAGIC)?;
    to.write_all(&VERSION.to_le_bytes())?;
    to.write_all(&written.to_le_bytes())?;
    let mut count: u64 = 0;
    for session in sessions {
        to.piece(session.id.as_bytes())?;
        to.write_all(&session.created.to_le_bytes())?;
        to.write_all(&session.accessed.to_le_bytes())?;
        to.write_all(&milliseconds(session.idle).to_le_bytes())?;
        to.write_all(&session.max_inactive.map_or(NEVER, |most| milliseconds(most).min(NEVER - 1)).to_le_bytes())?;
        to.write_all(&[u8::from(session.is_new)])?;
        to.write_all(&length(session.attributes.len())?.to_le_bytes())?;
        for (name, value) in &session.attributes {
            to.piece(name.as_bytes())?;
            to.piece(value)?;
        }
        count += 1;
    }
    to.write_all(&count.to_le_bytes())?;
    let sum = to.sum.clone().finalize();
    to.write_all(&sum.to_le_bytes())?;
    Ok(count)
}

/// Reads all of a file of that length.
pub fn read(from: impl Read, length: u64) -> Result<Snapshot, Damaged> {
    let mut from = Summed { inner: from, sum: Hasher::new() };
    if from.array()? != MAGIC {
        return Err(Damaged::Foreign);
    }
    let version = u32::from_le_bytes(from.array()?);
    if version > VERSION {
        return Err(Damaged::Later(version));
    }
    if version != VERSION {
        return Err(Damaged::Wrong("its version is none"));
    }
    let written = i64::from_le_bytes(from.array()?);
    let mut body = length.checked_sub(8 + 4 + 8 + TAIL_BYTES).ok_or(Damaged::Short)?;
    let mut sessions = Vec::new();
    while body > 0 {
        sessions.push(from.session(&mut body)?);
    }
    let count = u64::from_le_bytes(from.array()?);
    let sum = from.sum.clone().finalize();
    if u32::from_le_bytes(from.array()?) != sum {
        return Err(Damaged::Checksum);
    }
    if count != sessions.len() as u64 {
        return Err(Damaged::Wrong("it has not as many sessions as it says"));
    }
    Ok(Snapshot { written, sessions })
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn length(length: usize) -> io::Result<u32> {
    u32::try_from(length)
        .ok()
        .filter(|&length| length <= BYTES_MAX)
        .ok_or_else(|| io::Error::other("a session has more than 64 MiB in one piece"))
}

/// Sums up what goes through it.
struct Summed<T> {
    inner: T,
    sum: Hasher,
}

impl<W: Write> Summed<W> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.inner.write_all(bytes)
    }

    fn piece(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(&length(bytes.len())?.to_le_bytes())?;
        self.write_all(bytes)
    }
}

impl<R: Read> Summed<R> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Damaged::Short,
            _ => Damaged::Unreadable(error),
        })?;
        self.sum.update(&bytes);
        Ok(bytes)
    }

    /// A number, or whatever has a fixed size, of a body of which so many bytes are left.
    fn of<const N: usize>(&mut self, body: &mut u64) -> Result<[u8; N], Damaged> {
        *body = body.checked_sub(N as u64).ok_or(Damaged::Short)?;
        self.array()
    }

    fn bytes(&mut self, body: &mut u64) -> Result<Vec<u8>, Damaged> {
        let length = u32::from_le_bytes(self.of(body)?);
        if length > BYTES_MAX {
            return Err(Damaged::Wrong("something in it is too long"));
        }
        *body = body.checked_sub(u64::from(length)).ok_or(Damaged::Short)?;
        let mut bytes = Vec::new();
        // Grows with what is there.
        (&mut self.inner).take(u64::from(length)).read_to_end(&mut bytes)?;
        if bytes.len() != length as usize {
            return Err(Damaged::Short);
        }
        self.sum.update(&bytes);
        Ok(bytes)
    }

    fn text(&mut self, body: &mut u64) -> Result<String, Damaged> {
        String::from_utf8(self.bytes(body)?).map_err(|_| Damaged::Wrong("a name in it is not UTF-8"))
    }

    fn session(&mut self, body: &mut u64) -> Result<Saved, Damaged> {
        let id = self.text(body)?.into();
        let created = i64::from_le_bytes(self.of(body)?);
        let accessed = i64::from_le_bytes(self.of(body)?);
        let idle = Duration::from_millis(u64::from_le_bytes(self.of(body)?));
        let max_inactive = match u64::from_le_bytes(self.of(body)?) {
            NEVER => None,
            most => Some(Duration::from_millis(most)),
        };
        let is_new = match self.of(body)? {
            [0] => false,
            [1] => true,
            [_] => return Err(Damaged::Wrong("a session in it is neither new nor not")),
        };
        let count = u32::from_le_bytes(self.of(body)?);
        if count as usize > ATTRIBUTES_MAX {
            return Err(Damaged::Wrong("a session in it has too many attributes"));
        }
        let mut attributes = Vec::new();
        for _ in 0..count {
            attributes.push((self.text(body)?, Bytes::from(self.bytes(body)?)));
        }
        Ok(Saved { id, created, accessed, idle, max_inactive, is_new, attributes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions() -> Vec<Saved> {
        let plain = Saved {
            id: "0123456789ABCDEF".into(),
            created: 1_764_500_000_000,
            accessed: 1_764_500_001_000,
            idle: Duration::from_millis(1500),
            max_inactive: Some(Duration::from_secs(1800)),
            is_new: false,
            attributes: Vec::new(),
        };
        let attributes = [("", &b""[..]), ("größe", &[0, 255, 10]), ("long", &[7; 300])];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), Bytes::copy_from_slice(value))).to_vec();
        let odd = Saved {
            id: "Z".into(),
            created: i64::MIN,
            accessed: -1,
            idle: Duration::from_millis(u64::MAX),
            max_inactive: None,
            is_new: true,
            attributes,
        };
        vec![plain, odd]
    }

    fn written(sessions: &[Saved]) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert_eq!(write(&mut bytes, 42, sessions.iter().cloned()).unwrap(), sessions.len() as u64);
        bytes
    }

    fn read_all(bytes: &[u8]) -> Result<Snapshot, Damaged> {
        read(bytes, bytes.len() as u64)
    }

    /// With the sum that is right for it.
    fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
        let end = bytes.len() - 4;
        let sum = crc32fast::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    #[test]
    fn what_was_written_is_read() {
        for sessions in [sessions(), Vec::new()] {
            let Snapshot { written, sessions: read } = read_all(&written(&sessions)).unwrap();
            assert_eq!((written, read), (42, sessions));
        }
    }

    #[test]
    fn each_cut_and_each_flipped_bit_is_seen() {
        let whole = written(&sessions());
        for length in 0..whole.len() {
            assert!(read_all(&whole[..length]).is_err(), "cut at {length}");
            // Its length was read before it was cut.
            assert!(read(&whole[..length], whole.len() as u64).is_err(), "cut at {length}");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                assert!(read_all(&flipped).is_err(), "bit {bit} of byte {at}");
            }
        }
        assert!(read_all(&[&whole[..], &[0]].concat()).is_err());
        assert!(read_all(&whole.repeat(2)).is_err());
    }

    /// A checksum is no proof: whatever says that it is right is read within its bounds.
    #[test]
    fn lengths_are_not_believed() {
        let whole = written(&sessions());
        for at in 0..whole.len() - 4 {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                // It may be another one of the right form.
                if let Ok(snapshot) = read_all(&summed(changed)) {
                    assert_eq!(snapshot.sessions.len(), 2, "{value} at {at}");
                }
            }
            let mut long = whole.clone();
            let end = long.len().min(at + 4);
            long[at..end].fill(0xff);
            let _ = read_all(&summed(long));
        }
        let mut later = whole.clone();
        later[8] = 2;
        assert!(matches!(read_all(&later), Err(Damaged::Later(2))), "whatever follows in it");
        later[8] = 0;
        assert!(matches!(read_all(&summed(later)), Err(Damaged::Wrong(_))));
        assert!(matches!(read_all(b"<!doctype html>"), Err(Damaged::Foreign)));
        assert!(matches!(read_all(b""), Err(Damaged::Short)));
    }

    #[test]
    fn random_bytes_are_damaged() {
        // An xorshift: the same at each run.
        let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..2000 {
            let noise: Vec<u8> = (0..random() % 300).map(|_| random() as u8).collect();
            assert!(read_all(&noise).is_err());
            let mut begun = written(&[])[..20].to_vec();
            begun.extend(noise);
            begun.extend([0; 12]);
            assert!(read_all(&summed(begun)).map_or(true, |snapshot| snapshot.sessions.is_empty()));
        }
    }
}
