//! What happens to a server besides requests: files that change at the wrong moment, a clock that jumps, a disk that may not be written, a
//! queue that overflows, a kill in the middle of anything. Under load, of which no request fails and none gets an old answer; at the end
//! what should serve does, the status says so, nothing is left over, and the next change is taken.
//!
//! Not here: a full disk (`disk-full`, which mounts one), and what `faults`, `libraries`, `reloads`, `restart`, and `switching` prove.

mod clock;
mod folders;
mod kill;
mod permissions;
mod queue;
