//! The database: entries, their pictures, and the list of changes. It knows nothing of requests.
//!
//! During a reload two generations of this library have the database open, and each brings its own copy of SQLite.
//! SQLite tells its connections apart by locks of the *process* (fcntl), so that two copies of it in one process do
//! not see each other's locks: they would write over one another (<https://www.sqlite.org/howtocorrupt.html>, 2.2.1).
//! Therefore a file of our own is locked around all that is done (flock, which belongs to the open file and not to
//! the process), and the journal is a plain one: a write-ahead log (WAL) lives on between two transactions, and the
//! copy that closes first would delete it under the other.

use std::fs::File;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, TransactionBehavior, params};
use serde::Serialize;
use servlet::{Result, error};

use crate::picture::Picture;

/// LIMIT: bytes of the database, in pages of 4 KiB: 1 GiB. Then nothing more is written into the guestbook.
const PAGES_MAX: u32 = 262_144;

/// What the schema is made of, from version to version. A generation that is being replaced still works while the
/// next one has already added its step, so steps only ever add.
const STEPS: &[&str] = &["
    CREATE TABLE entries (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        author TEXT NOT NULL,
        name TEXT NOT NULL,
        message TEXT NOT NULL,
        written INTEGER NOT NULL
    );
    CREATE INDEX entries_of_author ON entries (author);
    CREATE TABLE pictures (
        entry INTEGER PRIMARY KEY,
        media_type TEXT NOT NULL,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        bytes BLOB NOT NULL
    );
    -- Which entries were added or deleted, in that order. Triggers, so that it does not matter who does it: what is
    -- deleted with the program `sqlite3` disappears from open pages too.
    CREATE TABLE changes (id INTEGER PRIMARY KEY AUTOINCREMENT, entry INTEGER NOT NULL);
    CREATE TRIGGER entry_added AFTER INSERT ON entries BEGIN
        INSERT INTO changes (entry) VALUES (new.id);
    END;
    CREATE TRIGGER entry_deleted AFTER DELETE ON entries BEGIN
        DELETE FROM pictures WHERE entry = old.id;
        INSERT INTO changes (entry) VALUES (old.id);
    END;
    CREATE TRIGGER changes_kept AFTER INSERT ON changes BEGIN
        DELETE FROM changes WHERE id <= new.id - 1000;
    END;
"];

/// The database, used by one thread at a time.
pub struct Store {
    open: Mutex<Open>,
}

struct Open {
    database: Connection,
    /// Behind the database, so that it is closed after it.
    lock: File,
}

/// An entry, as everybody may see it.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    pub id: i64,
    pub name: String,
    pub message: String,
    /// Milliseconds since 1970.
    pub written: i64,
    pub picture: Option<PictureLink>,
    /// Stands for the session that wrote it; never shown.
    #[serde(skip)]
    pub author: String,
}

/// Where an entry's picture is, and its size in pixels, so that the page can keep the place free.
#[derive(Debug, Clone, Serialize)]
pub struct PictureLink {
    pub url: String,
    pub width: u32,
    pub height: u32,
}

/// What a visitor wants to write.
pub struct NewEntry<'a> {
    pub author: &'a str,
    pub name: &'a str,
    pub message: &'a str,
    pub picture: Option<&'a Picture>,
}

/// Some entries, newest first.
#[derive(Serialize)]
pub struct Page {
    pub entries: Vec<Entry>,
    /// There are older ones.
    pub more: bool,
    /// How many there are in all.
    pub count: i64,
    /// The last change that is in it: events from there on are news.
    pub change: i64,
}

/// An entry was added, or (`None`) deleted.
#[derive(Debug)]
pub struct Change {
    pub id: i64,
    pub entry_id: i64,
    pub entry: Option<Entry>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Deletion {
    Done,
    OfSomebodyElse,
    NoSuchEntry,
}

impl Store {
    /// Opens the database in this folder, and brings its schema up to date.
    pub fn open(folder: &Path) -> Result<Store> {
        let lock = File::options().create(true).truncate(false).write(true).open(folder.join("guestbook.lock"))?;
        let held = Held::of(&lock)?;
        let database = Connection::open(folder.join("guestbook.db"))?;
        // For other programs, whose locks SQLite does see.
        database.busy_timeout(Duration::from_secs(5))?;
        database.pragma_update(None, "journal_mode", "TRUNCATE")?;
        database.pragma_update(None, "max_page_count", PAGES_MAX)?;
        let mut open = Open { database, lock: lock.try_clone()? };
        migrate(&mut open.database)?;
        drop(held);
        Ok(Store { open: Mutex::new(open) })
    }

    /// Does something with the database while nobody else does.
    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T> {
        // A thread that panicked has left a rolled back transaction behind, nothing worse.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Open { database, lock } = &mut *open;
        let _held = Held::of(lock)?;
        work(database).map_err(|wrong| match wrong.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => error(507, "This guestbook is full."),
            _ => wrong.into(),
        })
    }

    /// Returns a secret that stands for a new author.
    pub fn new_author(&self) -> Result<String> {
        self.with(|database| database.query_row("SELECT lower(hex(randomblob(16)))", [], |row| row.get(0)))
    }

    /// Returns at most `limit` entries: the newest, or those older than `before`.
    pub fn page(&self, before: Option<i64>, limit: u32) -> Result<Page> {
        self.with(|database| {
            let transaction = database.transaction()?;
            let sql = format!("{SELECT_ENTRY} WHERE e.id < ?1 ORDER BY e.id DESC LIMIT ?2");
            let mut entries = transaction
                .prepare_cached(&sql)?
                .query_map(params![before.unwrap_or(i64::MAX), limit + 1], entry)?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            let more = entries.len() > limit as usize;
            entries.truncate(limit as usize);
            let count = transaction.query_row("SELECT count(*) FROM entries", [], |row| row.get(0))?;
            let change = last_change(&transaction)?;
            Ok(Page { entries, more, count, change })
        })
    }

    /// Returns how many entries an author has.
    pub fn count_of(&self, author: &str) -> Result<i64> {
        let sql = "SELECT count(*) FROM entries WHERE author = ?1";
        self.with(|database| database.query_row(sql, [author], |row| row.get(0)))
    }

    /// Writes an entry and its picture, both or neither; 507 when the guestbook is full.
    pub fn add(&self, new: &NewEntry<'_>) -> Result<Entry> {
        self.with(|database| {
            let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute(
                "INSERT INTO entries (author, name, message, written) VALUES (?1, ?2, ?3, ?4)",
                params![new.author, new.name, new.message, now()],
            )?;
            let id = transaction.last_insert_rowid();
            if let Some(picture) = new.picture {
                transaction.execute(
                    "INSERT INTO pictures (entry, media_type, width, height, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![id, picture.media_type, picture.width, picture.height, picture.bytes],
                )?;
            }
            let written = transaction.query_row(&format!("{SELECT_ENTRY} WHERE e.id = ?1"), [id], entry)?;
            transaction.commit()?;
            Ok(written)
        })
    }

    /// Deletes an entry with its picture, if this author wrote it.
    pub fn delete(&self, id: i64, author: &str) -> Result<Deletion> {
        self.with(|database| {
            let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let found = transaction
                .query_row("SELECT author FROM entries WHERE id = ?1", [id], |row| row.get::<_, String>(0))
                .optional()?;
            match found {
                None => return Ok(Deletion::NoSuchEntry),
                Some(found) if found != author => return Ok(Deletion::OfSomebodyElse),
                Some(_) => transaction.execute("DELETE FROM entries WHERE id = ?1", [id])?,
            };
            transaction.commit()?;
            Ok(Deletion::Done)
        })
    }

    /// Returns the picture of an entry.
    pub fn picture(&self, id: i64) -> Result<Option<Picture>> {
        let sql = "SELECT media_type, width, height, bytes FROM pictures WHERE entry = ?1";
        let picture = |row: &Row<'_>| {
            Ok(Picture { media_type: row.get(0)?, width: row.get(1)?, height: row.get(2)?, bytes: row.get(3)? })
        };
        self.with(|database| database.query_row(sql, [id], picture).optional())
    }

    /// Returns the number of the last change; 0: there was none yet.
    pub fn last_change(&self) -> Result<i64> {
        self.with(|database| last_change(database))
    }

    /// Returns what was changed after `after`, oldest first, at most `limit` of it. An entry that is gone again was
    /// deleted.
    pub fn changes_after(&self, after: i64, limit: u32) -> Result<Vec<Change>> {
        let sql = "SELECT e.id, e.author, e.name, e.message, e.written, p.width, p.height, c.id, c.entry \
                   FROM changes c LEFT JOIN entries e ON e.id = c.entry LEFT JOIN pictures p ON p.entry = e.id \
                   WHERE c.id > ?1 ORDER BY c.id LIMIT ?2";
        self.with(|database| {
            let change = |row: &Row<'_>| {
                let there = row.get::<_, Option<i64>>(0)?.is_some();
                let entry = if there { Some(entry(row)?) } else { None };
                Ok(Change { id: row.get(7)?, entry_id: row.get(8)?, entry })
            };
            database.prepare_cached(sql)?.query_map(params![after, limit], change)?.collect()
        })
    }
}

/// While it is there nobody else uses the database.
struct Held<'a>(&'a File);

impl Held<'_> {
    fn of(lock: &File) -> std::io::Result<Held<'_>> {
        lock.lock()?;
        Ok(Held(lock))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // It fails only where locking failed before; and closing the file does it too.
        let _ = self.0.unlock();
    }
}

impl Drop for Open {
    /// SQLite gives back all locks of the process when it closes the database, also those of another generation that is
    /// in the middle of something: so not then. The lock ends with its file, after the database.
    fn drop(&mut self) {
        let _ = self.lock.lock();
    }
}

fn migrate(database: &mut Connection) -> Result {
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    // A newer schema is fine: see `STEPS`.
    for (number, step) in (1..).zip(STEPS).filter(|&(number, _)| number > version) {
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", number)?;
    }
    Ok(transaction.commit()?)
}

const SELECT_ENTRY: &str = "SELECT e.id, e.author, e.name, e.message, e.written, p.width, p.height \
                            FROM entries e LEFT JOIN pictures p ON p.entry = e.id";

/// Reads the columns of `SELECT_ENTRY`.
fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let id: i64 = row.get(0)?;
    let picture = match (row.get(5)?, row.get(6)?) {
        (Some(width), Some(height)) => Some(PictureLink { url: format!("pictures/{id}"), width, height }),
        _ => None,
    };
    Ok(Entry { id, author: row.get(1)?, name: row.get(2)?, message: row.get(3)?, written: row.get(4)?, picture })
}

fn last_change(database: &Connection) -> rusqlite::Result<i64> {
    database.query_row("SELECT coalesce(max(id), 0) FROM changes", [], |row| row.get(0))
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note<'a>(author: &'a str, message: &'a str) -> NewEntry<'a> {
        NewEntry { author, name: "Ada", message, picture: None }
    }

    fn messages(page: &Page) -> Vec<&str> {
        page.entries.iter().map(|entry| &*entry.message).collect()
    }

    #[test]
    fn entries_come_in_pages_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(messages(&store.page(None, 2).unwrap()), [""; 0]);
        for message in ["one", "two", "three"] {
            store.add(&note("a", message)).unwrap();
        }
        let first = store.page(None, 2).unwrap();
        assert_eq!((messages(&first), first.more, first.count, first.change), (vec!["three", "two"], true, 3, 3));
        let rest = store.page(Some(first.entries[1].id), 2).unwrap();
        assert_eq!((messages(&rest), rest.more), (vec!["one"], false));
    }

    #[test]
    fn only_the_author_deletes_and_the_picture_goes_too() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let picture = Picture { media_type: "image/png".into(), width: 3, height: 2, bytes: vec![1, 2] };
        let entry = store.add(&NewEntry { picture: Some(&picture), ..note("a", "look") }).unwrap();
        assert_eq!(entry.picture.as_ref().map(|picture| (&*picture.url, picture.width)), Some(("pictures/1", 3)));
        assert_eq!(store.picture(entry.id).unwrap(), Some(picture));
        assert_eq!(store.delete(entry.id, "b").unwrap(), Deletion::OfSomebodyElse);
        assert_eq!(store.delete(entry.id, "a").unwrap(), Deletion::Done);
        assert_eq!(store.delete(entry.id, "a").unwrap(), Deletion::NoSuchEntry);
        assert_eq!(store.picture(entry.id).unwrap(), None);
        // An id is never given twice: browsers keep pictures for ever.
        assert_eq!(store.add(&note("a", "again")).unwrap().id, entry.id + 1);
    }

    #[test]
    fn changes_are_numbered_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (one, two) = (store.add(&note("a", "one")).unwrap(), store.add(&note("a", "two")).unwrap());
        store.delete(one.id, "a").unwrap();
        let changes = store.changes_after(0, 10).unwrap();
        let seen = changes.iter().map(|change| (change.id, change.entry_id, change.entry.is_some()));
        assert_eq!(seen.collect::<Vec<_>>(), [(1, one.id, false), (2, two.id, true), (3, one.id, false)]);
        assert_eq!(store.changes_after(1, 1).unwrap()[0].id, 2);
        assert_eq!(store.last_change().unwrap(), 3);
        store
            .with(|database| {
                let transaction = database.transaction()?;
                for _ in 0..1100 {
                    transaction.execute("INSERT INTO changes (entry) VALUES (1)", [])?;
                }
                transaction.commit()
            })
            .unwrap();
        assert_eq!(store.changes_after(0, 2000).unwrap().len(), 1000);
    }

    #[test]
    fn what_one_generation_writes_the_other_reads() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (Store::open(folder.path()).unwrap(), Store::open(folder.path()).unwrap());
        std::thread::scope(|scope| {
            for store in [&old, &new] {
                scope.spawn(move || (0..100).for_each(|_| drop(store.add(&note("a", "hello")).unwrap())));
            }
        });
        drop(old);
        assert_eq!(new.page(None, 1).unwrap().count, 200);
        drop(new);
        assert_eq!(Store::open(folder.path()).unwrap().page(None, 1).unwrap().count, 200);
    }

    #[test]
    fn a_full_guestbook_says_so_and_keeps_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.with(|database| database.pragma_update(None, "max_page_count", 20)).unwrap();
        let long = "x".repeat(2000);
        let wrong = std::iter::repeat_with(|| store.add(&note("a", &long))).find_map(Result::err).unwrap();
        assert_eq!((wrong.status(), wrong.text()), (507, "This guestbook is full."));
        assert!(store.page(None, 1).unwrap().count > 0);
    }
}
