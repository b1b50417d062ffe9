//! What an `sv_config` leads to: how one servlet or filter is configured.

use serval_abi::{sv_config, sv_pair, sv_str};

/// Its address is fixed, since a library keeps the view.
pub(crate) struct Config {
    name: String,
    init: Vec<(String, String)>,
    pairs: Vec<sv_pair>,
    view: sv_config,
}

impl Config {
    pub(crate) fn new(name: &str, init: Vec<(String, String)>) -> Box<Config> {
        let empty = sv_config {
            struct_size: size_of::<sv_config>() as u32,
            reserved: 0,
            name: sv_str::ABSENT,
            init: std::ptr::null(),
            init_count: 0,
        };
        let mut config = Box::new(Config { name: name.to_owned(), init, pairs: Vec::new(), view: empty });
        config.pairs = config
            .init
            .iter()
            .map(|(name, value)| sv_pair { name: sv_str::new(name), value: sv_str::new(value) })
            .collect();
        config.view.name = sv_str::new(&config.name);
        config.view.init = config.pairs.as_ptr();
        config.view.init_count = config.pairs.len();
        config
    }

    pub(crate) fn view(&self) -> *const sv_config {
        &raw const self.view
    }
}
