//! What all commands share: the client, the options and the progress meter.

mod clients;
mod near;

use blob::{Archive, Client, Location, PullOptions};

use crate::alias::{Aliases, Wanted};
use crate::args::{Caching, Global};
use crate::config::Config;
use crate::error::{Failure, Kind};
use crate::ui::escape::shown;
use crate::ui::output;
use crate::ui::progress::Meter;
use crate::ui::record;
use crate::ui::style::Style;
use crate::ui::template::Template;
use crate::ui::traffic::Traffic;

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
                None => match near::scheme(typed) {
                    Some(scheme) => failure.with_hint(format!("did you mean `{scheme}:`?")),
                    None => failure,
                },
            }
        })
    }

    /// `location` if it is not what was typed, which is when an alias was.
    pub(crate) fn resolved(typed: &str, location: &Location) -> Option<String> {
        let location = location.to_string();
        (location != typed).then_some(location)
    }

    /// The password that was given, on standard input or in the environment.
    pub(crate) fn password(&self) -> Option<&str> {
        self.password.as_deref()
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
    /// data of the archive is; then what the cache saved. In JSON for programs.
    pub(crate) fn print_stats(&self, client: &Client, archive: &Archive) {
        self.meter.clear();
        if self.options.output.is_json() {
            return output::complain(&Traffic::of(client, [archive]).line());
        }
        let traffic = client.traffic();
        let requests = crate::ui::size::count(traffic.requests, "request");
        let data = archive.manifest().data().size;
        let cached = Traffic::of(client, [archive]).cached().map_or_else(String::new, |cached| format!(", {cached}"));
        output::complain(&format!("{requests}, {} of {data} bytes{cached}\n", traffic.received));
    }
}

/// Says in verbose output that nobody verified an archive.
pub(crate) fn note_verification(location: &Location, verified: bool) {
    if !verified {
        tracing::info!(archive = %location, "not verified: no policy is configured");
    }
}
