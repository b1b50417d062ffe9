//! What a generation is to have: the servlets and filters that its libraries declare, as web.toml changes them, and their maps.

use std::sync::Arc;

use serval_abi::{SV_DISPATCH_ASYNC, SV_DISPATCH_ERROR, SV_DISPATCH_FORWARD, SV_DISPATCH_INCLUDE, SV_DISPATCH_REQUEST};
use serval_config::{Dispatcher, Web, WebFilter, WebServlet};
use serval_loader::Refusal;
use serval_loader::library::{DeclaredFilter, Library};

use crate::filters::FilterMaps;
use crate::mapping::{By, Mapper, PatternError};

/// The class of the static files, and the name that every webapp has for them (SEMANTICS 14).
const FILES: &str = "default";

/// All that is to be created, in the order of its numbers.
pub struct Plans {
    pub servlets: Vec<Instance>,
    pub filters: Vec<Instance>,
    /// The names of the static files: the built-in one, then those that web.toml gives them.
    pub files: Vec<String>,
    pub mapper: Mapper,
    pub filter_maps: FilterMaps,
}

/// A servlet or filter that is to be created.
pub struct Instance {
    pub library: usize,
    /// Of its declaration in the library.
    pub index: usize,
    pub name: String,
    pub init: Vec<(String, String)>,
    pub load_order: i32,
    patterns: Vec<String>,
}

pub fn declared(libraries: &[Arc<Library>], web: &Web) -> Result<Plans, Refusal> {
    let servlets = servlets(libraries, web)?;
    let files: Vec<&WebServlet> = files(web).filter(|files| !declares(libraries, class_of(files))).collect();
    let mapper = mapper(&servlets, &files)?;
    let (filters, filter_maps) = filters(libraries, web)?;
    Ok(Plans { servlets, filters, files: names_of(&files), mapper, filter_maps })
}

/// The names of the static files and their mapping in a webapp without libraries, or whose libraries are not there yet.
pub fn of_files(web: &Web) -> (Vec<String>, Mapper) {
    let files: Vec<&WebServlet> = files(web).collect();
    // The file was read, and its patterns looked at: no two are one.
    let mapper = mapper(&[], &files).unwrap_or_default();
    (names_of(&files), mapper)
}

fn class_of(servlet: &WebServlet) -> &str {
    servlet.class.as_ref().unwrap_or(&servlet.name)
}

fn declares(libraries: &[Arc<Library>], class: &str) -> bool {
    libraries.iter().flat_map(|library| &library.declared().servlets).any(|servlet| servlet.name == class)
}

/// What web.toml says of the static files.
fn files(web: &Web) -> impl Iterator<Item = &WebServlet> {
    web.servlets.iter().filter(|servlet| servlet.enabled && class_of(servlet) == FILES)
}

fn names_of(files: &[&WebServlet]) -> Vec<String> {
    let given = files.iter().map(|servlet| servlet.name.as_str()).filter(|name| *name != FILES);
    std::iter::once(FILES).chain(given).map(str::to_owned).collect()
}

/// What the libraries declare, as web.toml changes it.
fn servlets(libraries: &[Arc<Library>], web: &Web) -> Result<Vec<Instance>, Refusal> {
    let mut instances: Vec<Instance> = Vec::new();
    for (number, library) in libraries.iter().enumerate() {
        for (index, servlet) in library.declared().servlets.iter().enumerate() {
            if instances.iter().any(|other| other.name == servlet.name) {
                return Err(Refusal::NameConflict(servlet.name.clone()));
            }
            instances.push(Instance {
                library: number,
                index,
                name: servlet.name.clone(),
                init: servlet.init.clone(),
                load_order: servlet.load_order,
                patterns: servlet.patterns.clone(),
            });
        }
    }
    let classes: Vec<(usize, usize, String)> =
        instances.iter().map(|instance| (instance.library, instance.index, instance.name.clone())).collect();
    for servlet in &web.servlets {
        let class = class_of(servlet);
        let Some((library, index, _)) = classes.iter().find(|(_, _, name)| name == class) else {
            if class == FILES {
                continue;
            }
            let known: Vec<&str> = classes.iter().map(|(_, _, name)| name.as_str()).collect();
            return Err(Refusal::NoSuchServlet(class.to_owned(), or_name_one_of(&known)));
        };
        if !servlet.enabled {
            instances.retain(|instance| instance.name != servlet.name);
            continue;
        }
        let found = instances.iter().position(|instance| instance.name == servlet.name);
        let at = found.unwrap_or_else(|| {
            let declared = &libraries[*library].declared().servlets[*index];
            instances.push(Instance {
                library: *library,
                index: *index,
                name: servlet.name.clone(),
                init: declared.init.clone(),
                load_order: declared.load_order,
                patterns: Vec::new(),
            });
            instances.len() - 1
        });
        let instance = &mut instances[at];
        instance.load_order = servlet.load_on_startup.unwrap_or(instance.load_order);
        if let Some(patterns) = &servlet.url_patterns {
            instance.patterns.clone_from(patterns);
        }
        for (name, value) in servlet.init.iter() {
            instance.init.retain(|(known, _)| known != name);
            instance.init.push((name.clone(), value.clone()));
        }
    }
    Ok(instances)
}

fn mapper(servlets: &[Instance], files: &[&WebServlet]) -> Result<Mapper, Refusal> {
    let names = names_of(files);
    let name_of = |by: By| match by {
        By::Servlet(number) => &servlets[number].name,
        By::Files(number) => &names[number],
    };
    let of_servlets = servlets.iter().enumerate().map(|(number, servlet)| (By::Servlet(number), &servlet.patterns[..]));
    let number_of = |servlet: &WebServlet| names.iter().position(|name| *name == servlet.name).unwrap_or_default();
    let of_files = files
        .iter()
        .map(|servlet| (By::Files(number_of(servlet)), servlet.url_patterns.as_deref().unwrap_or_default()));
    let mut mapper = Mapper::default();
    for (by, patterns) in of_servlets.chain(of_files) {
        for pattern in patterns {
            mapper.add(pattern, by).map_err(|error| match error {
                PatternError::Malformed | PatternError::Template => {
                    Refusal::BadPattern { servlet: name_of(by).clone(), pattern: pattern.clone() }
                }
                PatternError::Taken(other) => Refusal::PatternConflict {
                    pattern: pattern.clone(),
                    first: name_of(other).clone(),
                    second: name_of(by).clone(),
                },
            })?;
        }
    }
    Ok(mapper)
}

/// What else there is to write, when there is something.
fn or_name_one_of(known: &[&str]) -> String {
    if known.is_empty() { String::new() } else { format!(", or name one of these: {}", known.join(", ")) }
}

/// A filter with its maps.
struct Mapped {
    instance: Instance,
    order: i32,
    maps: Vec<Map>,
}

struct Map {
    patterns: Vec<String>,
    servlets: Vec<String>,
    dispatches: u32,
}

fn filters(libraries: &[Arc<Library>], web: &Web) -> Result<(Vec<Instance>, FilterMaps), Refusal> {
    let mut all: Vec<Mapped> = Vec::new();
    let mut classes: Vec<(usize, usize, &DeclaredFilter)> = Vec::new();
    for (library, of) in libraries.iter().enumerate() {
        for (index, filter) in of.declared().filters.iter().enumerate() {
            if classes.iter().any(|(_, _, other)| other.name == filter.name) {
                return Err(Refusal::NameConflict(filter.name.clone()));
            }
            classes.push((library, index, filter));
            all.push(mapped(library, index, filter, &filter.name));
        }
    }
    for filter in &web.filters {
        let class = filter.class.as_ref().unwrap_or(&filter.name);
        let Some(&(library, index, declared)) = classes.iter().find(|(_, _, declared)| declared.name == *class) else {
            let known: Vec<&str> = classes.iter().map(|(_, _, declared)| declared.name.as_str()).collect();
            return Err(Refusal::NoSuchFilter(class.clone(), or_name_one_of(&known)));
        };
        if !filter.enabled {
            all.retain(|other| other.instance.name != filter.name);
            continue;
        }
        let at = all.iter().position(|other| other.instance.name == filter.name).unwrap_or_else(|| {
            all.push(mapped(library, index, declared, &filter.name));
            all.len() - 1
        });
        change(&mut all[at], filter);
    }
    all.sort_by_key(|filter| filter.order);
    let mut maps = FilterMaps::default();
    for (number, filter) in all.iter().enumerate() {
        for map in &filter.maps {
            for pattern in &map.patterns {
                if !maps.add_pattern(number, pattern, map.dispatches) {
                    let servlet = filter.instance.name.clone();
                    return Err(Refusal::BadPattern { servlet, pattern: pattern.clone() });
                }
            }
            map.servlets.iter().for_each(|servlet| maps.add_servlet(number, servlet, map.dispatches));
        }
    }
    Ok((all.into_iter().map(|filter| filter.instance).collect(), maps))
}

fn mapped(library: usize, index: usize, declared: &DeclaredFilter, name: &str) -> Mapped {
    let DeclaredFilter { patterns, servlets, dispatches, init, order, .. } = declared;
    Mapped {
        instance: Instance {
            library,
            index,
            name: name.to_owned(),
            init: init.clone(),
            load_order: 0,
            patterns: Vec::new(),
        },
        order: *order,
        maps: vec![Map { patterns: patterns.clone(), servlets: servlets.clone(), dispatches: *dispatches }],
    }
}

fn change(mapped: &mut Mapped, filter: &WebFilter) {
    mapped.order = filter.order.unwrap_or(mapped.order);
    for (name, value) in filter.init.iter() {
        mapped.instance.init.retain(|(known, _)| known != name);
        mapped.instance.init.push((name.clone(), value.clone()));
    }
    if let Some(maps) = &filter.maps {
        let bits = |dispatchers: &[Dispatcher]| dispatchers.iter().fold(0, |bits, dispatcher| bits | bit(*dispatcher));
        let map = |map: &serval_config::WebFilterMap| Map {
            patterns: map.url_patterns.clone(),
            servlets: map.servlets.clone(),
            dispatches: bits(&map.dispatchers),
        };
        mapped.maps = maps.iter().map(map).collect();
    }
}

fn bit(dispatcher: Dispatcher) -> u32 {
    match dispatcher {
        Dispatcher::Request => SV_DISPATCH_REQUEST,
        Dispatcher::Forward => SV_DISPATCH_FORWARD,
        Dispatcher::Include => SV_DISPATCH_INCLUDE,
        Dispatcher::Error => SV_DISPATCH_ERROR,
        Dispatcher::Async => SV_DISPATCH_ASYNC,
    }
}
