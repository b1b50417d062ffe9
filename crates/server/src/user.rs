//! Whom the server runs as: from root to the user of `user` in [server], when its addresses are open, and never back.
//!
//! Servlets have all that the server has. So nothing of root's may be left, in no thread: libc changes all of them, and the kernel is
//! asked about each.

use std::ffi::CString;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::unistd::{
    Gid, Group, Uid, User as Account, getegid, geteuid, getgroups, initgroups, setegid, seteuid, setgroups, setresgid,
    setresuid,
};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use serval_config::{Address, Listener, Server};

/// Another one than the one who has started the server.
pub struct User {
    /// As it is written.
    written: String,
    uid: Uid,
    gid: Gid,
    /// With its name, by which the system knows its further groups; `None`: the system has only its number.
    account: Option<Account>,
}

/// Its home folder, when the server has become somebody else: HOME is that of who has started it.
static HOME: OnceLock<PathBuf> = OnceLock::new();

pub fn home() -> Option<&'static Path> {
    HOME.get().map(PathBuf::as_path)
}

/// What to do, for one whose name is not root, or not any more; a clause.
pub fn how_to_open_ports_of_root() -> &'static str {
    match HOME.get() {
        Some(_) => "Serval has become another user (`user` in [server]), so restart Serval, which opens it before",
        None => "start Serval with the capability CAP_NET_BIND_SERVICE, or as root with `user` in [server]",
    }
}

/// Of root, unless `user` says that it is meant.
pub fn warn_of_root(config: &Server) {
    if config.user.is_none() && geteuid().is_root() {
        tracing::warn!(
            "Serval runs as root, and so do all servlets: name whom it is to become when its addresses are open as `user` in [server], \
             or start it as somebody else"
        );
    }
}

impl User {
    /// Whom the server is to become; `None`: it stays who it is. Says in a sentence why it cannot be.
    pub fn of(config: &Server) -> Result<Option<User>, String> {
        let root = geteuid().is_root();
        let Some(wanted) = &config.user else { return Ok(None) };
        let user = User::named(wanted)?;
        if user.uid == geteuid() && (wanted.group.is_none() || user.gid == getegid()) {
            return Ok(None);
        }
        if user.uid.is_root() {
            return Err(format!(
                "`user` in [server] is `{wanted}`, which is root still: leave the group out, or name another user"
            ));
        }
        if !root {
            return Err(format!(
                "`user` in [server] is `{wanted}`, whom only root may become, and Serval was started as user {}: start it as root or as \
                 that user, or remove the key",
                geteuid()
            ));
        }
        Ok(Some(user))
    }

    /// The one that the system has by that name, or number.
    pub fn named(wanted: &serval_config::User) -> Result<User, String> {
        let unknown = |what: &str, name: &str, how: &str| {
            format!(
                "`user` in [server] is `{wanted}`, and the system has no {what} `{name}`: make it with `{how} --system {name}`, or name another one"
            )
        };
        let failed =
            |error: Errno| format!("`user` in [server] is `{wanted}`, which cannot be looked up: {}", error.desc());
        let by_number = wanted.name.parse().ok().map(Uid::from_raw);
        let account = match by_number {
            Some(uid) => Account::from_uid(uid),
            None => Account::from_name(&wanted.name),
        };
        let account = account.map_err(failed)?;
        let uid = account.as_ref().map(|account| account.uid).or(by_number);
        let uid = uid.ok_or_else(|| unknown("user", &wanted.name, "useradd"))?;
        let gid = match (&wanted.group, &account) {
            (Some(group), _) => match group.parse() {
                Ok(number) => Gid::from_raw(number),
                Err(_) => {
                    let group = Group::from_name(group).map_err(failed)?;
                    let name = wanted.group.as_deref().unwrap_or_default();
                    group.ok_or_else(|| unknown("group", name, "groupadd"))?.gid
                }
            },
            (None, Some(account)) => account.gid,
            (None, None) => {
                return Err(format!(
                    "`user` in [server] is `{wanted}`, of which the system knows no group: write one, as in `user = \"{uid}:{uid}\"`"
                ));
            }
        };
        Ok(User { written: wanted.to_string(), uid, gid, account })
    }

    /// Sees to it that `var` belongs to it, or says in a sentence what to do. What is not there yet is made, and given to it; nothing
    /// else is, since whoever may write there would choose what.
    pub fn owns(&self, var: &Path) -> Result<(), String> {
        match std::fs::create_dir(var).and_then(|()| lchown(var, Some(self.uid.as_raw()), Some(self.gid.as_raw()))) {
            // What is in the way is found out when it is used.
            Ok(()) | Err(_) => {}
        }
        let mut folders = vec![(var.to_owned(), 2)];
        while let Some((folder, below)) = folders.pop() {
            // It may be a link itself, of whoever has set it up.
            let found = if folder == var { folder.metadata() } else { folder.symlink_metadata() };
            let Ok(found) = found else { continue };
            if found.uid() != self.uid.as_raw() {
                return Err(format!(
                    "{} belongs to user {}, and Serval is to run as `{}`: run `chown -R {}:{} {}`",
                    folder.display(),
                    found.uid(),
                    self.written,
                    self.uid,
                    self.gid,
                    var.display()
                ));
            }
            if below > 0 && found.is_dir() {
                let inside = std::fs::read_dir(&folder).into_iter().flatten().flatten();
                // A file system's own, if `var` is one.
                let inside = inside.filter(|entry| entry.file_name() != "lost+found");
                folders.extend(inside.map(|entry| (entry.path(), below - 1)));
            }
        }
        Ok(())
    }

    /// Gives it the file of a Unix socket that was made for it, and is to belong to nobody else.
    pub fn takes(&self, settings: &Listener) -> Result<(), String> {
        match &settings.address {
            Address::Unix(path) if settings.unix_owner.is_none() => {
                lchown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
                    .map_err(|error| format!("{} cannot be given to `{}`: {error}", path.display(), self.written))
            }
            _ => Ok(()),
        }
    }

    /// Does something as this user, while there is one thread, and is root again: what lies in folders of others is not for root.
    pub fn for_now<T>(&self, what: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        let groups = getgroups().unwrap_or_default();
        let failed = |error: Errno| self.cannot(error);
        self.set_groups().and_then(|()| setegid(self.gid)).and_then(|()| seteuid(self.uid)).map_err(failed)?;
        let done = what();
        let root = (Uid::from_raw(0), Gid::from_raw(0));
        seteuid(root.0).and_then(|()| setegid(root.1)).and_then(|()| setgroups(&groups)).map_err(failed)?;
        done
    }

    /// Becomes it, for ever. Says in a sentence if anything of root is left; the process is to end then.
    pub fn become_for_ever(&self) -> Result<(), String> {
        let set = || {
            self.set_groups()?;
            setresgid(self.gid, self.gid, self.gid)?;
            setresuid(self.uid, self.uid, self.uid)
        };
        set().map_err(|error| self.cannot(error))?;
        if seteuid(Uid::from_raw(0)).is_ok() {
            return Err(format!("Serval has become `{}`, and could be root again; please report it", self.written));
        }
        self.check_threads()?;
        // The kernel lets nobody look at a process that was somebody else. The stacks of slow calls are read by one of this user, and what
        // root alone may read is not in memory any more, but for what this user is to use.
        let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
        let _ = HOME.set(self.account.as_ref().map_or("/".into(), |account| account.dir.clone()));
        tracing::info!("runs as `{}` (user {}, group {}) from here on", self.written, self.uid, self.gid);
        Ok(())
    }

    fn set_groups(&self) -> nix::Result<()> {
        match self.account.as_ref().and_then(|account| CString::new(&*account.name).ok()) {
            Some(name) => initgroups(&name, self.gid),
            None => setgroups(&[self.gid]),
        }
    }

    fn cannot(&self, error: Errno) -> String {
        format!(
            "Serval cannot become `{}` (`user` in [server]): {}; it needs the capabilities CAP_SETUID and CAP_SETGID",
            self.written,
            error.desc()
        )
    }

    /// Each thread has its own identity, as the kernel sees it.
    fn check_threads(&self) -> Result<(), String> {
        let wrong =
            |what: &str| format!("Serval has become `{}`, but not as a whole: {what}; please report it", self.written);
        let unseen = |error: std::io::Error| wrong(&format!("/proc/self/task cannot be read ({error})"));
        let four = |id: u32| vec![id.to_string(); 4];
        for task in std::fs::read_dir("/proc/self/task").map_err(unseen)?.flatten() {
            // One that has just ended is nobody any more.
            let Ok(status) = std::fs::read_to_string(task.path().join("status")) else { continue };
            let values = |key: &str| -> Vec<String> {
                let line = status.lines().find_map(|line| line.strip_prefix(key));
                line.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
            };
            let has_none = |key: &str| values(key).iter().all(|mask| mask.bytes().all(|digit| digit == b'0'));
            if values("Uid:") != four(self.uid.as_raw()) || values("Gid:") != four(self.gid.as_raw()) {
                return Err(wrong("a thread is still somebody else"));
            }
            let has_capabilities = ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"].iter().any(|key| !has_none(key));
            if has_capabilities {
                return Err(wrong("a thread still has capabilities"));
            }
        }
        Ok(())
    }
}
