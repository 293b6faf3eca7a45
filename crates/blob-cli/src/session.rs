//! What all commands share: the client, the options and the progress meter.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use blob::cache::{CacheDir, OpenError};
use blob::http::RetryPolicy;
use blob::registry::client::DockerConfig;
use blob::registry::{PageRequest, Tag};
use blob::{Archive, Client, ClientBuilder, Error, Limits, Location, PullOptions, RegistryOptions};

use crate::alias::{Aliases, Wanted};
use crate::args::{Caching, Global};
use crate::cache_place::CachePlace;
use crate::config::Config;
use crate::error::{Failure, Kind};
use crate::trust::{Rules, TrustArgs, WantedArgs, off_thread, policy_set};
use crate::ui::escape::shown;
use crate::ui::near::nearest;
use crate::ui::output;
use crate::ui::progress::Meter;
use crate::ui::record;
use crate::ui::style::Style;
use crate::ui::template::Template;
use crate::ui::traffic::Traffic;

/// Tags of a repository that are named where another one was asked for; more of them are listed by a command.
const NAMED_TAGS: usize = 6;

/// A command that runs.
pub(crate) struct Session {
    pub(crate) options: Global,
    pub(crate) style: Style,
    pub(crate) meter: Meter,
    pub(crate) config: Config,
    /// The global options that were typed, by their ids.
    pub(crate) flags: Vec<String>,
    aliases: Aliases,
    template: Option<Template>,
    password: Option<String>,
}

impl Session {
    /// Takes the options. The password is read from standard input if that was asked for.
    pub(crate) fn begin(mut options: Global, config: Config, flags: Vec<String>) -> Result<Self, Failure> {
        let template = options.template()?;
        let password = if options.password_stdin {
            let mut line = String::new();
            let read = std::io::stdin().read_line(&mut line);
            read.map_err(|error| Failure::io("reading the password from standard input", &error))?;
            Some(line.trim_end_matches(['\r', '\n']).to_owned())
        } else {
            std::env::var("BLOB_PASSWORD").ok()
        };
        let silent = options.quiet || options.output.is_json();
        let meter = Meter::start(options.progress, silent);
        Ok(Self {
            style: options.style(),
            meter,
            options,
            aliases: config.aliases(),
            template,
            config,
            flags,
            password,
        })
    }

    /// The place of an archive that `typed` means: `host/repo:tag`, `host/repo@sha256:…`, `oci:DIR:TAG`, or an alias.
    pub(crate) fn location(&self, typed: &str) -> Result<Location, Failure> {
        self.place(typed, Wanted::Archive)
    }

    /// The repository that `typed` means: `host/repo`, `oci:DIR`, or an alias.
    pub(crate) fn repository(&self, typed: &str) -> Result<Location, Failure> {
        let found = self.place(typed, Wanted::Repository);
        // A host is no reference in any reading, and a tag is not what is missing.
        found.map_err(|failure| match failure.hint() {
            None if !typed.contains('/') => {
                let expected = "expected HOST/REPOSITORY, such as localhost:5000/team/assets";
                Failure::usage(format!("{typed:?} names no repository: {expected}"))
            }
            _ => failure,
        })
    }

    fn place(&self, typed: &str, wanted: Wanted) -> Result<Location, Failure> {
        let meant = self.aliases.expand(typed, wanted);
        if meant != typed {
            tracing::info!(alias = typed, reference = &*meant, "resolved an alias");
        }
        meant.parse().map_err(|error| {
            let failure = Failure::from(error);
            match self.aliases.similar(typed) {
                Some(similar) => failure.with_hint(format!("did you mean the alias `{similar}`?")),
                None => failure,
            }
        })
    }

    /// `location` if it is not what was typed, which is when an alias was.
    pub(crate) fn resolved(typed: &str, location: &Location) -> Option<String> {
        let location = location.to_string();
        (location != typed).then_some(location)
    }

    /// What is configured for a registry.
    pub(crate) fn registry_options(&self, host: &str) -> RegistryOptions {
        let named = options_of(&self.config).find(|(known, _)| *known == host);
        let mut options = named.map(|(_, options)| options).unwrap_or_default();
        if let Some(path) = &self.options.ca_file {
            options.ca_files.push(path.clone());
            if !self.options.plain_http {
                options.plain_http.get_or_insert(false);
            }
        }
        options
    }

    /// A client that pushes to `location`. Archives are assembled in `spool_dir`, else beside the cache: temporary
    /// directories may be memory, and are not expected to hold archives.
    pub(crate) fn client_for_push(&self, location: &Location, spool_dir: Option<&Path>) -> Result<Client, Failure> {
        let builder = self.builder_for(&[location])?;
        let beside_cache = || {
            if self.options.no_cache || std::env::var_os("TMPDIR").is_some() {
                return None;
            }
            let dir = CachePlace::find(&self.options)?.dir;
            // As the cache makes it: for this user alone.
            let mut builder = std::fs::DirBuilder::new();
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.recursive(true).create(&dir).ok().map(|()| dir)
        };
        Ok(match spool_dir.map(Path::to_owned).or_else(beside_cache) {
            Some(dir) => builder.spool_dir(dir).build()?,
            None => builder.build()?,
        })
    }

    /// A client for the registries of `locations`. Credentials are looked for only if there are any. What opens archives
    /// is [`reading`](Self::reading), and [`trusting`](Self::trusting).
    pub(crate) async fn client(&self, locations: &[&Location]) -> Result<Client, Failure> {
        self.judging(locations, self.config.rules(None), false).await
    }

    /// As [`client`](Self::client); archives must also satisfy what is `wanted` on the command line. The policies of the
    /// configuration count for every client, so that no command is a way around them.
    pub(crate) async fn trusting(&self, locations: &[&Location], wanted: &WantedArgs) -> Result<Client, Failure> {
        self.demanding(locations, locations, wanted, !wanted.is_empty()).await
    }

    /// As [`trusting`](Self::trusting), where only what is `read` of the locations must be in the policy files; with
    /// `verified`, what no policy admitted is not opened.
    async fn demanding(
        &self,
        locations: &[&Location],
        read: &[&Location],
        wanted: &WantedArgs,
        verified: bool,
    ) -> Result<Client, Failure> {
        let configured = !wanted.no_default_policy && self.config.has_rules();
        // Nobody is asked for a trust root that nothing is verified by.
        let root = if configured || !wanted.is_empty() { wanted.root.find(self).await? } else { None };
        let mut rules = wanted.rules_for(read, root.as_ref()).await?;
        if configured {
            rules.extend(self.config.rules(root.as_ref()));
        }
        self.judging(locations, rules, verified).await
    }

    async fn judging(&self, locations: &[&Location], rules: Vec<Rules>, verified: bool) -> Result<Client, Failure> {
        let mut builder = self.builder_for(locations)?;
        if !rules.is_empty() {
            let locations: Vec<Location> = locations.iter().copied().cloned().collect();
            // Keys, modules and documents may be on a disk that does not answer.
            let set = off_thread(move || policy_set(&rules, &locations)).await?;
            builder = builder.policies_from(Arc::new(set));
        }
        // Who asks for something, and gets no verdict about it, was not served.
        if verified {
            builder = builder.require_verified();
        }
        Ok(builder.build()?)
    }

    /// As [`trusting`](Self::trusting), for commands that open archives.
    pub(crate) async fn reading(&self, locations: &[&Location], trust: &TrustArgs) -> Result<Client, Failure> {
        self.copying(locations, &[], trust).await
    }

    /// As [`reading`](Self::reading), for commands that also write to other locations.
    pub(crate) async fn copying(
        &self,
        read: &[&Location],
        written: &[&Location],
        trust: &TrustArgs,
    ) -> Result<Client, Failure> {
        if trust.verify && trust.wanted.is_empty() && !self.config.has_rules() {
            let hint = "name the signer with --repo, --key, or --certificate-identity and its issuer, or pass --policy";
            return Err(Failure::usage("--verify without a policy: there is nothing to verify by").with_hint(hint));
        }
        let asked = !trust.wanted.is_empty() || (self.config.has_rules() && !trust.wanted.no_default_policy);
        if trust.wanted.root.is_given() && !asked {
            let hint = "name the signer with --repo, --key, or --certificate-identity and its issuer, or pass --policy";
            let message = "a trust root says who is believed, not whose signature is wanted: nothing would be verified";
            return Err(Failure::usage(message).with_hint(hint));
        }
        self.demanding(&[read, written].concat(), read, &trust.wanted, trust.is_given()).await
    }

    /// As [`reading`](Self::reading), for who also wants to know who signed, whoever that is.
    pub(crate) async fn describing(&self, locations: &[&Location], trust: &TrustArgs) -> Result<Client, Failure> {
        self.demanding(locations, locations, &trust.wanted, trust.is_given()).await
    }

    /// The password that was given, on standard input or in the environment.
    pub(crate) fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// What all clients have in common: everything but credentials and caches.
    pub(crate) fn builder(&self) -> ClientBuilder {
        let options = &self.options;
        let mut limits = Limits::default();
        limits.max_index_bytes = options.max_index_size.unwrap_or(limits.max_index_bytes);
        limits.max_entries = options.max_entries.map_or(limits.max_entries, std::num::NonZero::get);
        let mut retry = RetryPolicy::default();
        if let Some(retries) = options.retries {
            retry = retry.with_max_attempts(retries + 1);
        }
        let mut builder = Client::builder()
            .user_agent(concat!("blob/", env!("CARGO_PKG_VERSION")))
            .certificate_dirs_from_env()
            .plain_http(options.plain_http)
            .limits(limits)
            .retry(retry);
        if let Some(time) = options.timeout {
            builder = builder.idle_timeout(Duration::from_secs(time.seconds()));
        }
        if let Some(rate) = options.bwlimit {
            builder = builder.max_bytes_per_second(rate);
        }
        for (host, registry) in options_of(&self.config) {
            builder = builder.registry(host, registry);
        }
        if let Some(path) = &options.ca_file {
            builder = builder.ca_file(path);
        }
        if options.require_signed {
            builder = builder.require_verified();
        }
        if options.offline {
            builder = builder.offline();
        }
        builder
    }

    /// As [`builder`](Self::builder), with the credentials and the cache for `locations`, if any is in a registry.
    fn builder_for(&self, locations: &[&Location]) -> Result<ClientBuilder, Failure> {
        let mut builder = self.builder();
        let hosts: Vec<&str> = locations.iter().filter_map(|location| Some(location.reference()?.host())).collect();
        if !hosts.is_empty() {
            if self.options.offline && self.options.no_cache {
                return Err(Failure::usage("--offline and --no-cache leave nothing to answer from"));
            }
            builder = self.credentials(builder, &hosts)?;
        }
        // What is read from this machine needs no cache.
        if !hosts.is_empty()
            && let Some(cache) = self.cache()?
        {
            builder = self.options.cache.without.iter().fold(builder, |builder, layer| builder.without_cache(*layer));
            builder = builder.cache(cache);
        }
        Ok(builder)
    }

    /// Gives `builder` the credentials for `hosts`: those that were given for this command, else the logins.
    fn credentials(&self, builder: ClientBuilder, hosts: &[&str]) -> Result<ClientBuilder, Failure> {
        let options = &self.options;
        match (&options.username, &self.password) {
            (Some(user), Some(password)) => Ok(match sole_host(hosts)? {
                Some(host) if hosts.iter().all(|other| *other == host) => {
                    builder.static_credentials(host, user, password)
                }
                Some(host) => builder.static_credentials(host, user, password).environment_credentials(),
                // Our variables are among what the environment says, for the registry that they name.
                None => builder.environment_credentials(),
            }),
            (Some(_), None) => {
                Err(Failure::usage("a user without a password: set BLOB_PASSWORD or pass --password-stdin"))
            }
            (None, _) if options.password_stdin => {
                Err(Failure::usage("a password without a user: name the user with --username"))
            }
            (None, _) => Ok(match &options.registry_config {
                Some(path) => {
                    let logins = DockerConfig::load(path).map_err(Error::Credentials)?;
                    builder.credentials(Arc::new(logins))
                }
                None => builder.environment_credentials(),
            }),
        }
    }

    /// The cache, if it is to be used. One that nobody asked for and that cannot be used is only warned about, and so is one of
    /// a newer program: this one leaves it alone, and works without.
    fn cache(&self) -> Result<Option<CacheDir>, Failure> {
        if self.options.no_cache {
            return Ok(None);
        }
        let Some(place) = CachePlace::find(&self.options) else {
            tracing::warn!("going on without a cache: neither XDG_CACHE_HOME nor HOME says where it is");
            return Ok(None);
        };
        let mut options = self.options.cache.options();
        if self.options.offline {
            // An old answer is better than none.
            options.tag_ttl = Duration::MAX;
        }
        match CacheDir::open(&place.dir, options) {
            Ok(cache) => Ok(Some(cache)),
            Err(source) if place.chosen && !matches!(source, OpenError::Version { .. }) => {
                Err(Error::Cache { dir: place.dir, source }.into())
            }
            Err(error) => {
                if let Some(cause) = std::error::Error::source(&error) {
                    tracing::warn!(cause, "going on without a cache: {error}");
                } else {
                    tracing::warn!("going on without a cache: {error}");
                }
                Ok(None)
            }
        }
    }

    /// `failure` with what was probably meant: an alias in the place of a host that nobody knows, or a tag of the repository,
    /// which costs a request.
    pub(crate) async fn with_near(&self, failure: Failure) -> Failure {
        let unknown = failure.reference().filter(|_| failure.kind == Kind::Network);
        if let Some(alias) = unknown.and_then(|reference| self.aliases.similar_to_host(reference)) {
            let hint = format!("did you mean the alias `{alias}`?");
            return failure.without_hint().with_hint(hint);
        }
        self.with_near_tag(failure).await
    }

    async fn with_near_tag(&self, failure: Failure) -> Failure {
        let Some((location, tag)) = failure.absent().and_then(|location| Some((location.clone(), location.tag()?)))
        else {
            return failure;
        };
        let Ok(client) = self.client(&[&location]).await else { return failure };
        let listed = match client.tags(&location, &PageRequest::first()).await {
            Ok(listed) => listed,
            Err(error) if error.is_not_found() => {
                let Some(reference) = location.reference() else { return failure };
                let (host, repository) = (reference.host(), reference.repository());
                let hint = format!("{host} has no repository {repository}, or does not show it without a log-in");
                return failure.without_hint().with_hint(hint);
            }
            Err(_) => return failure,
        };
        if listed.items.contains(&tag) {
            let hint = "the tag is there, and what it names is not: push it again, or copy it from where it is whole";
            return failure.without_hint().with_hint(hint);
        }
        let near = nearest(tag.as_str(), listed.items.iter().map(Tag::as_str));
        let all = failure.hint().map_or_else(String::new, |hint| format!(" {hint}"));
        match near {
            Some(near) => failure.without_hint().with_hint(format!("did you mean the tag {near}?{all}")),
            None if (1..=NAMED_TAGS).contains(&listed.items.len()) => {
                let tags: Vec<&str> = listed.items.iter().map(Tag::as_str).collect();
                let there = if tags.len() == 1 { "there is only the tag" } else { "there are only the tags" };
                failure.without_hint().with_hint(format!("{there} {}", tags.join(", ")))
            }
            None => failure,
        }
    }

    /// Options for opening archives.
    pub(crate) fn pull_options(&self, caching: Caching) -> PullOptions {
        let mut options = PullOptions::default();
        options.skip_cache = caching.skip_cache;
        options.progress = Some(self.meter.watcher());
        options
    }

    /// Opens the archive at `location`.
    pub(crate) async fn open(
        &self,
        client: &Client,
        location: &Location,
        caching: Caching,
    ) -> Result<Archive, Failure> {
        self.open_with(client, location, &self.pull_options(caching)).await
    }

    /// Opens the archive at `location`, all of which will be read if `whole` says so.
    pub(crate) async fn open_to_read(
        &self,
        client: &Client,
        location: &Location,
        caching: Caching,
        whole: bool,
    ) -> Result<Archive, Failure> {
        let mut options = self.pull_options(caching);
        options.reads_all = whole;
        self.open_with(client, location, &options).await
    }

    async fn open_with(&self, client: &Client, location: &Location, options: &PullOptions) -> Result<Archive, Failure> {
        let opened = client.pull(location, options).await;
        let archive = opened.map_err(|error| Failure::at(error, location))?;
        note_verification(location, archive.manifest().is_verified());
        Ok(archive)
    }

    /// Writes data to standard output; the meter is cleared first.
    pub(crate) async fn print(&self, data: impl AsRef<[u8]>) -> Result<(), Failure> {
        self.meter.clear();
        let document = self.template.as_ref().map(|template| (template, serde_json::from_slice(data.as_ref())));
        match document {
            Some((template, Ok(document))) => {
                let filled = template.render(&document);
                output::print(filled.map_err(|problem| self.unformatted(&document, &problem))?).await
            }
            // Questions and contents are no documents.
            _ => output::print(data).await,
        }
    }

    /// The template fits the documents of the command, and not this one: what the command does is done.
    fn unformatted(&self, document: &serde_json::Value, problem: &str) -> Failure {
        let command = self.options.words.replace('-', " ");
        let about = match document.get("digest").and_then(serde_json::Value::as_str) {
            Some(digest) => format!(" ({})", shown(digest.as_bytes())),
            None => String::new(),
        };
        let message = format!("`blob {command}` did its work{about}, and --format does not fit the result: {problem}");
        Failure::new(Kind::General, message).with_hint("-o json writes the whole result")
    }

    /// Writes the result of a command: `content` for programs, `text` for people, which is left out if they want quiet.
    pub(crate) async fn report<T: serde::Serialize>(
        &self,
        content: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.is_terse() {
            self.meter.clear();
            return Ok(());
        }
        self.answer(content, text).await
    }

    /// Writes what a command was asked for, which quiet leaves alone: `content` for programs, `text` for people.
    pub(crate) async fn answer<T: serde::Serialize>(
        &self,
        content: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        self.print(record::render(self.options.output, content, text)).await
    }

    /// Writes what a command did, as [`report`](Self::report), or what it would do, which was asked for.
    pub(crate) async fn outcome<T: serde::Serialize>(
        &self,
        is_plan: bool,
        content: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if is_plan { self.answer(content, text).await } else { self.report(content, text).await }
    }

    /// Whether a command says no more than a digest or a path.
    pub(crate) fn is_terse(&self) -> bool {
        self.options.quiet && !self.options.output.is_json()
    }

    /// Says in the log what the client has moved, and what its caches gave.
    pub(crate) fn log_traffic(client: &Client) {
        let (traffic, used) = (client.traffic(), client.cache_use());
        tracing::info!(
            requests = traffic.requests,
            received_bytes = traffic.received,
            sent_bytes = traffic.sent,
            cache_hits = used.hits,
            cached_bytes = used.bytes,
            "traffic"
        );
    }

    /// `N requests, X of Y bytes` on standard error, as `--stats` asks: what came over the network, and how large the
    /// data of the archive is; then what the cache saved.
    pub(crate) fn print_stats(&self, client: &Client, archive: &Archive) {
        self.meter.clear();
        let traffic = client.traffic();
        let requests = crate::ui::size::count(traffic.requests, "request");
        let data = archive.manifest().data().size;
        let cached = Traffic::of(client, [archive]).cached().map_or_else(String::new, |cached| format!(", {cached}"));
        output::complain(&format!("{requests}, {} of {data} bytes{cached}\n", traffic.received));
    }
}

/// The one registry of `hosts` that may see the user and the password of this command; none if they are for another.
fn sole_host<'a>(hosts: &[&'a str]) -> Result<Option<&'a str>, Failure> {
    let named = std::env::var("BLOB_REGISTRY").ok().filter(|host| !host.is_empty());
    if let Some(named) = named {
        return Ok(hosts.iter().copied().find(|host| **host == *named));
    }
    let Some(&first) = hosts.first() else { return Ok(None) };
    match hosts.iter().find(|host| **host != first) {
        None => Ok(Some(first)),
        Some(other) => Err(Failure::usage(format!("one password is not for two registries: {first} and {other}"))
            .with_hint("log in to each with `blob login`, or say in BLOB_REGISTRY which one is meant")),
    }
}

/// What is configured for single registries, which was checked when it was read.
fn options_of(config: &Config) -> impl Iterator<Item = (&str, RegistryOptions)> {
    let registries = config.settings.registries.iter().flatten();
    registries.filter_map(|(host, registry)| Some((host.as_str(), registry.options().ok()?)))
}

/// Says in verbose output that nobody verified an archive.
pub(crate) fn note_verification(location: &Location, verified: bool) {
    if !verified {
        tracing::info!(archive = %location, "not verified: no policy is configured");
    }
}
