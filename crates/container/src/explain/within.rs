//! The steps of a request inside its context: redirect, welcome file, servlet, filters, file.

use std::path::PathBuf;
use std::sync::Arc;

use http::{Method, Response, StatusCode};
use serval_abi::{
    SV_DISPATCH_REQUEST, SV_MATCH_CONTEXT_ROOT, SV_MATCH_EXACT, SV_MATCH_EXTENSION, SV_MATCH_PATH, SV_MATCH_TEMPLATE,
};
use serval_config::Web;
use serval_config::lines::Part;
use serval_loader::library::Library;
use serval_loader::private_copy::Fingerprint;
use serval_static_files::Found;

use super::{At, Explanation, Note, below, first_line, without_page};
use crate::body::ResponseBody;
use crate::context::{Context, Waiting};
use crate::declared::{Instance, Plans, declared};
use crate::files::Asker;
use crate::filters::To;
use crate::generation::{Generation, Ground, servlet_libraries};
use crate::inside::{self, Mapped};
use crate::mapping::{By, Match};
use crate::webapp::has_source;
use crate::{dispatch, exchange, files};

/// A webapp and what its libraries declare.
struct Webapp<'c> {
    context: &'c Context,
    generation: Arc<Generation>,
    web_toml: PathBuf,
    libraries: Vec<Arc<Library>>,
    servlets: Vec<Instance>,
    filters: Vec<Instance>,
}

impl Explanation<'_> {
    /// What `within` does in the root of this crate.
    pub(super) fn within(&mut self, context: &Context, mut request: exchange::Request) {
        let listener = request.peer.listener.clone();
        request.target.enter(&context.path, &listener.uri);
        let webapp = self.webapp(context);
        let generation = &webapp.generation;
        if inside::lacks_slash(generation, request.target.path()) {
            let why =
                Note::new("no servlet takes it as it is; `context_root = false` in [redirects] of web.toml serves it");
            self.step("redirect", "a slash is added to the context's root").note(why);
            return self.redirect(&webapp, &without_page(inside::redirect_to_root(&request, context, generation)));
        }
        let Mapped { found, welcome } = inside::find(generation, request.target.path());
        if request.method == Method::TRACE && !listener.allow_trace {
            let listener = [Part::Key("listener"), Part::Nth(self.listener)];
            let at = self.line(&[&[listener[0], listener[1], Part::Key("allow_trace")], &listener]);
            self.step("method", "TRACE is not answered")
                .note(Note::new("`allow_trace = true` in [[listener]] lets it in").at(at));
            self.step("answer", StatusCode::METHOD_NOT_ALLOWED.to_string());
            return;
        }
        if let Some(path) = welcome {
            self.welcome(&webapp, request.target.path(), &path);
            request.target.go_to(path);
        }
        let path = request.target.path().to_owned();
        if inside::is_protected(&path) {
            let why = Note::new("in any case of letters, at the top of a webapp").by("Servlet 10.5");
            self.step("protected", "WEB-INF and META-INF are never served").note(why);
            self.step("answer", StatusCode::NOT_FOUND.to_string());
            return;
        }
        self.mapped(&webapp, found, &path);
        let filtered = self.filters(&webapp, found, &path);
        match found.by {
            By::Servlet(number) => self.by_servlet(&webapp, &request, number),
            By::Files(_) => self.by_file(&webapp, &request, &path),
        }
        if let Some(answer) = self.steps.last_mut().filter(|_| filtered) {
            answer.note(Note::new("unless a filter answers, or changes it"));
        }
    }

    fn redirect(&mut self, webapp: &Webapp<'_>, answer: &Response<ResponseBody>) {
        let at = webapp.line(&[&[Part::Key("redirects"), Part::Key("status")]]);
        self.answer(answer);
        if let (Some(step), Some(_)) = (self.steps.last_mut(), &at) {
            step.note(Note::new("`status` of [redirects]").at(at));
        }
    }

    /// Opens the libraries of a webapp, and maps as they declare.
    fn webapp<'w>(&mut self, context: &'w Context) -> Webapp<'w> {
        let lies = context.current.load().webapp.clone();
        let web_toml = lies.join("WEB-INF/web.toml");
        let mut webapp = Webapp {
            context,
            generation: context.current.load_full(),
            web_toml,
            libraries: Vec::new(),
            servlets: Vec::new(),
            filters: Vec::new(),
        };
        match open(context) {
            Ok(libraries) if libraries.is_empty() => {
                if self.config.sources && has_source(&lies) {
                    context.set_waiting(Waiting::Building);
                    self.step("libraries", "none yet: a server that runs builds them first");
                }
            }
            Ok(libraries) => match declared(&libraries, &webapp.generation.web) {
                Ok(Plans { servlets, filters, files, mapper, filter_maps }) => {
                    let ground = Ground::clone(&webapp.generation);
                    webapp.generation = Generation::of_mapping(ground, (mapper, files, filter_maps));
                    (webapp.libraries, webapp.servlets, webapp.filters) = (libraries, servlets, filters);
                }
                Err(refusal) => self.not_loaded(context, &refusal.to_string()),
            },
            Err(refusal) => self.not_loaded(context, &refusal),
        }
        webapp
    }

    fn not_loaded(&mut self, context: &Context, why: &str) {
        context.set_waiting(Waiting::Failed);
        let why = self.without_home(why);
        self.step("libraries", "refused: no servlet of the webapp answers").note(Note::new(why));
    }

    fn welcome(&mut self, webapp: &Webapp<'_>, folder: &str, path: &str) {
        let entry = path.strip_prefix(folder).unwrap_or(path);
        let (list, at) = match webapp.generation.web.welcome_files {
            Some(_) => ("welcome_files", webapp.line(&[&[Part::Key("welcome_files"), Part::Text(entry)]])),
            None => ("the default welcome_files", None),
        };
        let is_there = matches!(webapp.generation.folder.lookup(path), Found::File(_));
        let why = if is_there { "a file of that name is there" } else { "a servlet takes it" };
        self.step("welcome", path).note(Note::new(format!("`{entry}` of {list}: {why}")).by("Servlet 10.10").at(at));
    }

    /// Who answers, and by which pattern.
    fn mapped(&mut self, webapp: &Webapp<'_>, found: Match, path: &str) {
        let generation = &webapp.generation;
        let pattern = generation.mapper.pattern(found);
        let kind = match found.kind {
            SV_MATCH_CONTEXT_ROOT => "the pattern of the context's root",
            SV_MATCH_EXACT => "the exact pattern",
            SV_MATCH_TEMPLATE => "the template",
            SV_MATCH_PATH => "the path pattern",
            SV_MATCH_EXTENSION => "the extension pattern",
            _ => "the default pattern",
        };
        let (name, why) = match found.by {
            By::Files(_) => ("files", format!("{}, the files of the webapp", webapp.name_of(found.by))),
            By::Servlet(_) => ("servlet", webapp.name_of(found.by).to_owned()),
        };
        let at = webapp.place_of_pattern(found.by, pattern);
        let others: Vec<String> = generation
            .mapper
            .find_all(path)
            .into_iter()
            .filter(|other| generation.mapper.pattern(*other) != pattern && generation.mapper.pattern(*other) != "/")
            .map(|other| format!("`{}` of {}", generation.mapper.pattern(other), webapp.name_of(other.by)))
            .collect();
        let step = self.step(name, why);
        step.note(Note::new(format!("by {kind} `{pattern}`")).by("Servlet 12.2").at(at));
        if !others.is_empty() {
            step.note(Note::new(format!("these match too, and come after it: {}", others.join(", "))));
        }
    }

    /// The filters that the request passes, in their order; false: none.
    fn filters(&mut self, webapp: &Webapp<'_>, found: Match, path: &str) -> bool {
        let generation = webapp.generation.clone();
        let name = webapp.name_of(found.by);
        let filters = generation.filter_maps.find_with_maps(Some(path), name, SV_DISPATCH_REQUEST);
        for (number, to) in &filters {
            let filter = &webapp.filters[*number];
            let map = match (to.pattern(), to.servlet()) {
                (Some(pattern), _) => format!("`{pattern}`"),
                (None, Some("*")) => "every servlet".to_owned(),
                (None, servlet) => format!("the servlet `{}`", servlet.unwrap_or_default()),
            };
            let at = webapp.place_of_map(filter, to);
            self.step("filter", &filter.name).note(Note::new(format!("for {map}")).by("Servlet 6.2.4").at(at));
        }
        !filters.is_empty()
    }

    fn by_servlet(&mut self, webapp: &Webapp<'_>, request: &exchange::Request, number: usize) {
        let servlet = &webapp.servlets[number];
        let library = &webapp.libraries[servlet.library];
        let methods = library.declared().servlets[servlet.index].methods;
        match dispatch::by_method(&request.method, request, methods) {
            Some(answered) => {
                let at = Some(At::Library(library.path().to_owned()));
                let what = format!("{} is not among those of the servlet", request.method);
                self.step("method", what)
                    .note(Note::new("the servlet says which methods it has").by("RFC 9110 9.1").at(at));
                self.answer(&without_page(answered));
            }
            None => drop(self.step("answer", format!("by the servlet {}", servlet.name))),
        }
    }

    /// What is on disk, and what is sent of it; what would change it is foreseen, not tried.
    fn by_file(&mut self, webapp: &Webapp<'_>, request: &exchange::Request, path: &str) {
        let (context, home) = (webapp.context, self.config.home.clone());
        let on_disk = |path: &str| webapp.generation.webapp.join(path.trim_start_matches('/'));
        let shown = |path: &str| below(&home, &on_disk(path));
        let folder = &webapp.generation.folder;
        let options = folder.options();
        let key = |key: &'static str| webapp.line(&[&[Part::Key("files"), Part::Key(key)]]);
        let Some(answer) = files::answer(request, context, &webapp.generation, Asker::Client).map(without_page) else {
            let status = folder.foresee(&request.method, path);
            let what = match (status, request.method == Method::DELETE) {
                (StatusCode::CREATED, _) => "is made",
                (StatusCode::NO_CONTENT, false) => "is replaced",
                (StatusCode::NO_CONTENT, true) => "is removed",
                (StatusCode::CONFLICT, _) => "is a folder, or its folder is not there, and PUT makes none",
                (StatusCode::METHOD_NOT_ALLOWED, _) => "is a folder, and only an empty one may be removed",
                (StatusCode::NOT_FOUND, true) => "is not there, or hidden",
                (StatusCode::NOT_FOUND, false) => "would be hidden by a dot before a name",
                _ => "may not be changed",
            };
            let why = Note::new("`writable` of [files] lets PUT and DELETE change files").at(key("writable"));
            self.step("file", format!("{} {what}", shown(path))).note(why);
            self.step("answer", status.to_string());
            return;
        };
        let (mut sent, mut found) = (path.to_owned(), folder.lookup(path));
        let what = match &found {
            Found::File(_) => shown(path),
            Found::Directory => format!("{} is a folder", shown(path)),
            Found::Forbidden => format!("{} may not be read", shown(path)),
            Found::Failed(error) => format!("{} cannot be opened: {error}", shown(path)),
            Found::Missing => format!("there is no {}", shown(path)),
        };
        let step = self.step("file", what);
        if let (Found::Missing, Ok(_)) = (&found, on_disk(path).symlink_metadata()) {
            let why = "something is there, but hidden: by a dot before a name, or as a link out of the webapp (symlinks_outside)";
            step.note(Note::new(why));
        }
        if let (Found::Missing, true, Some(fallback)) = (&found, answer.status().is_success(), &options.fallback) {
            sent = format!("/{fallback}");
            found = folder.lookup(&sent);
            step.note(Note::new(format!("{} stands for it: `fallback` of [files]", shown(&sent))).at(key("fallback")));
        }
        if let (Found::Missing, StatusCode::NOT_FOUND, Some(fallback)) = (&found, answer.status(), &options.fallback)
            && matches!(request.method, Method::GET | Method::HEAD)
        {
            let page = format!("/{fallback}");
            let why = match folder.lookup(&page) {
                Found::File(_) => {
                    "stands for a name with an extension only when HTML is asked for, as browsers do for an address"
                        .to_owned()
                }
                _ => format!("names {}, which is not there", shown(&page)),
            };
            step.note(Note::new(format!("`fallback` of [files] {why}")).at(key("fallback")));
        }
        if let (Found::Directory, true) = (&found, answer.status().is_success()) {
            step.note(Note::new("it is shown as a list: `listings` of [files]").at(key("listings")));
        }
        if let (Found::File(file), true) = (&found, answer.status().is_success()) {
            for (coding, extension) in &options.precompressed {
                let beside = format!("{sent}{extension}");
                if let Found::File(_) = folder.lookup(&beside) {
                    let text = format!("{} is sent to who prefers {coding}", shown(&beside));
                    step.note(Note::new(text).at(key("precompressed")));
                }
            }
            if let Some(rule) = folder.cache_rule(&sent, file) {
                let at = webapp.line(&[&[Part::Key("files"), Part::Key("cache_control"), Part::Nth(rule)]]);
                step.note(Note::new("its Cache-Control is that of this [[files.cache_control]]").at(at));
            }
        }
        match answer.status().is_redirection() {
            true => self.redirect(webapp, &answer),
            false => self.answer(&answer),
        }
    }
}

impl Webapp<'_> {
    fn line(&self, places: &[&[Part<'_>]]) -> Option<At> {
        first_line(&self.web_toml, places)
    }

    fn name_of(&self, by: By) -> &str {
        match by {
            By::Servlet(number) => &self.servlets[number].name,
            By::Files(_) => self.generation.name_of(by),
        }
    }

    /// Where the pattern of a servlet is written.
    fn place_of_pattern(&self, by: By, pattern: &str) -> Option<At> {
        let table = [Part::Key("servlet"), Part::Named(self.name_of(by))];
        let place = [table[0], table[1], Part::Key("url_patterns"), Part::Text(pattern)];
        self.line(&[&place]).or_else(|| self.library_of(&self.servlets[by.servlet()?]))
    }

    /// Where the map of a filter is written.
    fn place_of_map(&self, filter: &Instance, to: &To) -> Option<At> {
        let pattern = to.pattern();
        let (key, text) = match (&pattern, to.servlet()) {
            (Some(pattern), _) => ("url_patterns", pattern.as_str()),
            (None, servlet) => ("servlets", servlet.unwrap_or_default()),
        };
        let table = [Part::Key("filter"), Part::Named(&filter.name)];
        let direct = [table[0], table[1], Part::Key(key), Part::Text(text)];
        let web: &Web = &self.generation.web;
        let maps = web.filters.iter().find(|other| other.name == filter.name).and_then(|filter| filter.maps.as_ref());
        let in_maps = (0..maps.map_or(0, Vec::len)).find_map(|map| {
            self.line(&[&[table[0], table[1], Part::Key("map"), Part::Nth(map), Part::Key(key), Part::Text(text)]])
        });
        self.line(&[&direct]).or(in_maps).or_else(|| self.library_of(filter))
    }

    fn library_of(&self, instance: &Instance) -> Option<At> {
        Some(At::Library(self.libraries.get(instance.library)?.path().to_owned()))
    }
}

/// The libraries that declare servlets, opened where they lie; or why a server would refuse them.
fn open(context: &Context) -> Result<Vec<Arc<Library>>, String> {
    let lib = context.current.load().webapp.join("WEB-INF/lib");
    let prints =
        Fingerprint::of_libraries(&lib).map_err(|error| format!("{} cannot be read: {error}", lib.display()))?;
    // The linker takes a name without a slash for one to search for.
    let lib = lib.canonicalize().unwrap_or(lib);
    let all: Vec<(PathBuf, Fingerprint)> = prints.into_iter().map(|print| (lib.join(&print.name), print)).collect();
    let mut libraries = Vec::new();
    if all.is_empty() {
        return Ok(libraries);
    }
    for file in servlet_libraries(&all, &context.current.load().settings).map_err(|refused| refused.to_string())? {
        let library = Library::open(file).map_err(|refusal| format!("{}: {refusal}", file.display()))?;
        libraries.extend(library.map(Arc::new));
    }
    Ok(libraries)
}
