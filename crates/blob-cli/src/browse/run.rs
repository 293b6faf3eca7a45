//! The loop: draw, wait for a key or a result, change the state, do what it asks for.

use std::sync::Arc;
use std::time::Duration;

use blob::{Archive, Client};
use crossterm::event::{Event, KeyEvent, KeyEventKind};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::draw::{Frame, Look, draw};
use super::extract::{Advance, extract};
use super::highlight;
use super::preview::Content;
use super::state::{Browser, Effect, Outcome};
use super::terminal::{Screen, events};
use crate::error::{Failure, Kind};

/// How long the cursor rests on a file before it is fetched: moving over many files fetches none of them.
const REST: Duration = Duration::from_millis(120);

/// How often the screen is drawn anew while something is under way.
const TICK: Duration = Duration::from_millis(200);

/// Browses until the user has enough.
pub(crate) async fn run(archive: Archive, client: Client, colored: bool) -> Result<(), Failure> {
    let look = Look::of(&archive, colored);
    let (mut browser, effects) = Browser::new(Arc::clone(archive.index()));
    let (sender, mut outcomes) = mpsc::channel(16);
    let mut worker = Worker { archive, colored, sender, loading: None, advance: Arc::default(), extracting: None };
    let terminal = |error| Failure::io("using the terminal", &error);
    let mut screen = Screen::take().map_err(terminal)?;
    let mut keys = events();
    let mut effects = effects;
    loop {
        for effect in effects.drain(..) {
            match effect {
                Effect::Quit => return Ok(()),
                Effect::Interrupt => return Err(Failure::new(Kind::Interrupted, Kind::Interrupted.name())),
                Effect::Clip(text) => screen.clip(&text).map_err(terminal)?,
                effect => worker.start(effect),
            }
        }
        let advance = browser.extracting.then(|| worker.advance.text());
        let seen = Frame { look: &look, traffic: client.traffic(), advance: advance.as_deref() };
        screen.draw(|frame| draw(frame, &mut browser, &seen)).map_err(terminal)?;
        tokio::select! {
            key = keys.recv() => match key {
                Some(Ok(event)) => effects = typed(&mut browser, event),
                Some(Err(error)) => return Err(terminal(error)),
                None => return Ok(()),
            },
            Some(outcome) = outcomes.recv() => browser.outcome(outcome),
            () = tokio::time::sleep(TICK), if worker.is_busy() => {}
        }
    }
}

fn typed(browser: &mut Browser, event: Event) -> Vec<Effect> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => browser.key(key),
        // A paste goes to the line that is being typed; elsewhere it would be taken for commands.
        Event::Paste(text) if browser.is_typing() => {
            let printable = text.chars().filter(|typed| !typed.is_control());
            printable.flat_map(|typed| browser.key(KeyEvent::from(crossterm::event::KeyCode::Char(typed)))).collect()
        }
        _ => Vec::new(),
    }
}

/// What goes on beside the screen. Dropping it ends that.
struct Worker {
    archive: Archive,
    colored: bool,
    sender: mpsc::Sender<Outcome>,
    loading: Option<JoinHandle<()>>,
    advance: Arc<Advance>,
    extracting: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(&mut self, effect: Effect) {
        match effect {
            Effect::Load(path) => {
                self.forget();
                let load = load(self.archive.clone(), path, self.colored, self.sender.clone());
                self.loading = Some(tokio::spawn(load));
            }
            Effect::Forget => self.forget(),
            Effect::Extract(copy) => {
                self.advance = Arc::default();
                let (archive, advance, sender) = (self.archive.clone(), Arc::clone(&self.advance), self.sender.clone());
                self.extracting = Some(tokio::spawn(async move {
                    let outcome = Outcome::Extracted(extract(archive, copy, advance).await);
                    // Nobody listens when the browser has ended.
                    let _ = sender.send(outcome).await;
                }));
            }
            Effect::StopExtracting => self.advance.stop(),
            Effect::Clip(_) | Effect::Quit | Effect::Interrupt => {}
        }
    }

    fn forget(&mut self) {
        if let Some(loading) = self.loading.take() {
            loading.abort();
        }
    }

    fn is_busy(&self) -> bool {
        [&self.loading, &self.extracting].into_iter().flatten().any(|task| !task.is_finished())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.forget();
        if let Some(extracting) = self.extracting.take() {
            extracting.abort();
        }
    }
}

/// Fetches a file for the preview, shows it as it is, then in colours.
async fn load(archive: Archive, path: Vec<u8>, colored: bool, sender: mpsc::Sender<Outcome>) {
    tokio::time::sleep(REST).await;
    let content = match archive.read(&path).await {
        Ok(bytes) => Ok(Content::of(&bytes)),
        Err(error) => Err(Failure::from(blob::Error::Read(error)).sentence()),
    };
    let text = content.as_ref().ok().and_then(|content| content.text.clone());
    let sent = sender.send(Outcome::Loaded(path.clone(), content)).await.is_ok();
    let Some(text) = text.filter(|_| sent && colored) else { return };
    let name = String::from_utf8_lossy(path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()).into_owned();
    // Colours are a courtesy: without them the text stays as it is.
    if let Ok(Some(lines)) = tokio::task::spawn_blocking(move || highlight::lines(&name, &text)).await {
        let _ = sender.send(Outcome::Highlighted(path, lines)).await;
    }
}
