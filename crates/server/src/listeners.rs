//! The listeners that are open, and another list of them in the place of this one.
//!
//! Owned by `live`. Each accepts in a task of its own (`listener`), which goes on after it was removed until its connections have ended.

use std::sync::Arc;

use serval_config::{Address, Listener};
use serval_container::Container;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::inherited::Inherited;
use crate::listener::serve;
use crate::run::{say, told};
use crate::socket::Socket;
use crate::tls::{Acceptor, State};

pub type Bound = (Socket, Terms);

/// What a listener goes by.
#[derive(Clone)]
pub struct Terms {
    pub settings: Arc<Listener>,
    /// Who speaks TLS for it; `None`: nobody.
    pub tls: Option<Arc<Acceptor>>,
}

impl PartialEq for Terms {
    fn eq(&self, other: &Terms) -> bool {
        let same_tls = match (&self.tls, &other.tls) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        same_tls && self.settings == other.settings
    }
}

pub struct Listeners {
    container: Arc<Container>,
    inherited: Arc<Inherited>,
    open: Vec<Open>,
    tasks: JoinSet<()>,
}

struct Open {
    terms: watch::Sender<Terms>,
    shown: String,
    /// Dropped, it stops too.
    stop: watch::Sender<bool>,
}

/// What a new listener waits for.
#[derive(PartialEq)]
pub enum First {
    Connections,
    /// Until none is being loaded any more.
    Servlets,
}

/// A list that can be put in force: all its addresses are open.
pub struct Prepared {
    /// By the place of each in `open`: its new settings; `None`: it goes.
    kept: Vec<Option<Terms>>,
    new: Vec<Bound>,
}

impl Listeners {
    pub fn new(container: Arc<Container>, inherited: Arc<Inherited>) -> Listeners {
        Listeners { container, inherited, open: Vec::new(), tasks: JoinSet::new() }
    }

    pub fn add(&mut self, (socket, terms): Bound, first: First) {
        let ((terms, new), (stop, mut stopped)) = (watch::channel(terms), watch::channel(false));
        let (container, shown) = (self.container.clone(), socket.shown(&new.borrow().settings));
        self.tasks.spawn(async move {
            if first == First::Servlets {
                tokio::select! { () = container.settled() => {}, () = told(&mut stopped) => return }
            }
            serve(socket, new, container, stopped).await;
        });
        self.open.push(Open { terms, shown, stop });
    }

    /// Opens the addresses that are new, and changes nothing. One that has only other settings stays open.
    ///
    /// # Errors
    /// A sentence: one of them cannot be opened.
    pub fn prepare(&self, wanted: &[Listener], tls: &State) -> Result<Prepared, String> {
        self.inherited.check(wanted)?;
        let mut kept: Vec<Option<Terms>> = vec![None; self.open.len()];
        let mut new = Vec::new();
        for (number, settings) in wanted.iter().enumerate() {
            let terms = Terms { settings: Arc::new(settings.clone()), tls: tls.acceptor(number) };
            let same = |number: &usize| {
                kept[*number].is_none() && stays_open(&self.open[*number].terms.borrow().settings, settings)
            };
            match (0..self.open.len()).find(same) {
                Some(number) => kept[number] = Some(terms),
                None => new.push((self.bind(settings)?, terms)),
            }
        }
        Ok(Prepared { kept, new })
    }

    fn bind(&self, settings: &Listener) -> Result<Socket, String> {
        let addresses = self.open.iter().map(|open| open.terms.borrow().settings.address.clone());
        let in_the_way = |own: &Address| match (own.port(), settings.address.port()) {
            (Some(port), other) => port != 0 && Some(port) == other,
            (None, _) => *own == settings.address,
        };
        let in_the_way = addresses.into_iter().find(in_the_way);
        Socket::bind(settings, &self.inherited).map_err(|sentence| match in_the_way {
            Some(own) if own == settings.address => {
                format!("{own} cannot be opened anew with other options while this server listens there: restart it for those")
            }
            Some(own) => format!(
                "{} cannot be opened while this server listens on {own}: give it another port, or restart",
                settings.address
            ),
            None => sentence,
        })
    }

    /// Connections of those that go end by themselves: after their exchange, or at once, if they have none.
    pub fn put_in_force(&mut self, Prepared { kept, new }: Prepared) {
        for bound in new {
            say(format_args!("listening on {}", bound.0.shown(&bound.1.settings)));
            self.add(bound, First::Connections);
        }
        let mut kept = kept.into_iter();
        self.open.retain(|open| match kept.next() {
            Some(None) => {
                say(format_args!("no longer listening on {}", open.shown));
                open.stop.send_replace(true);
                false
            }
            Some(Some(terms)) => {
                open.terms.send_if_modified(|known| {
                    let is_new = *known != terms;
                    *known = terms;
                    is_new
                });
                true
            }
            // One of the new ones.
            None => true,
        });
    }

    /// Waits for one that has ended as it never should.
    pub async fn broken(&mut self) -> JoinError {
        loop {
            match self.tasks.join_next().await {
                Some(Err(error)) => return error,
                // It was removed, and its last connection has ended.
                Some(Ok(())) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Stops them all, and waits until their connections have ended.
    pub async fn stop(mut self) {
        for open in &self.open {
            open.stop.send_replace(true);
        }
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Whether the socket of one serves for the other; what is said of its connections may differ.
fn stays_open(one: &Listener, other: &Listener) -> bool {
    let of_socket = |listener: &Listener| {
        let Listener { unix_mode, ipv6_only, send_buffer_bytes, receive_buffer_bytes, .. } = *listener;
        (unix_mode, ipv6_only, send_buffer_bytes, receive_buffer_bytes)
    };
    one.address == other.address && one.unix_owner == other.unix_owner && of_socket(one) == of_socket(other)
}
