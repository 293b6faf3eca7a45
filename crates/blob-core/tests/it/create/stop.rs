//! Failures and cancellation: the call returns, with the right error, from wherever it is.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use blob_core::create::SkipCompression;
use blob_core::{Compression, CreateError, CreateOptions, Event, create, create_to};

use super::{archive, noise, options, text, threads, tree};

/// Two hundred small files with a large one in their midst, and another large one at the end.
fn mixed() -> tempfile::TempDir {
    let small: Vec<(String, Vec<u8>)> =
        (0..200).map(|number| (format!("{number:03}/f"), text(number, 30_000))).collect();
    let mut files: Vec<(&str, &[u8])> =
        small.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
    let large = [noise(1, 10 << 20), text(1, 12 << 20)];
    files.push(("100x", &large[0]));
    files.push(("zz", &large[1]));
    tree(&files)
}

fn forms() -> Vec<CreateOptions> {
    let mut forms = Vec::new();
    for count in [1, 4] {
        for compression in [Compression::None, Compression::Zstd] {
            for memory in [0, 64 << 20] {
                let mut options = threads(count);
                (options.compression, options.memory) = (compression, memory);
                forms.push(options);
            }
        }
    }
    forms
}

/// Fails, or panics, once it has taken so many bytes.
struct Full {
    left: usize,
    panics: bool,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            assert!(!self.panics, "the writer panicked");
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = bytes.len().min(self.left);
        self.left -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_ends_it_wherever_it_happens() {
    let dir = mixed();
    for options in forms() {
        let (created, data) = archive(dir.path(), &options).unwrap();
        for left in [0, 1, data.len() / 3, data.len() / 2, data.len() - 1] {
            let error = create(dir.path(), &mut Full { left, panics: false }, &options).unwrap_err();
            assert!(
                matches!(&error, CreateError::Write { what: "data", source } if source.kind() == io::ErrorKind::StorageFull),
                "{error:?}"
            );
        }
        let mut index = Full { left: created.index.as_bytes().len() - 1, panics: false };
        let error = create_to(dir.path(), &mut index, &mut io::sink(), &options).unwrap_err();
        assert!(matches!(error, CreateError::Write { what: "index", .. }), "{error:?}");
    }
}

#[test]
fn panics_of_the_caller_come_through() {
    let dir = mixed();
    let message = |panic: Box<dyn std::any::Any + Send>| panic.downcast_ref::<&str>().map(ToString::to_string);
    for options in forms() {
        let mut writer = Full { left: 1 << 20, panics: true };
        let panic = catch_unwind(AssertUnwindSafe(|| create(dir.path(), &mut writer, &options))).unwrap_err();
        assert_eq!(message(panic).as_deref(), Some("the writer panicked"));
    }
    let filter = options(|options| {
        options.filter = Some(Arc::new(|path: &[u8], _| {
            assert!(path != b"150/f", "the filter panicked");
            true
        }));
    });
    let predicate = options(|options| {
        options.skip_compression = SkipCompression::new(|path, _| {
            assert!(path != b"150/f", "the predicate panicked");
            false
        });
    });
    let progress = options(|options| {
        options.progress = Arc::new(|event: &Event<'_>| {
            assert!(!matches!(event, Event::Archived { files: 150, .. }), "the watcher panicked");
            ControlFlow::Continue(())
        });
    });
    for (options, expected) in
        [(filter, "the filter panicked"), (predicate, "the predicate panicked"), (progress, "the watcher panicked")]
    {
        let panic = catch_unwind(AssertUnwindSafe(|| create(dir.path(), &mut io::sink(), &options))).unwrap_err();
        assert_eq!(message(panic).as_deref(), Some(expected));
    }
}

#[test]
fn cancelling_works_at_every_event() {
    let dir = mixed();
    for mut options in forms() {
        // Break at the first event, the second, the fourth …, until there are fewer events than that.
        for at in (0..).map(|power| 1_usize << power) {
            let events = Arc::new(AtomicUsize::new(0));
            let seen = Arc::clone(&events);
            options.progress = Arc::new(move |_: &Event<'_>| {
                if seen.fetch_add(1, Ordering::Relaxed) + 1 == at {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            let Err(error) = create(dir.path(), &mut io::sink(), &options) else {
                assert!(events.load(Ordering::Relaxed) < at);
                assert!(at > 256, "there is an event for each directory and file");
                break;
            };
            assert!(error.is_cancelled(), "{error:?}");
        }
    }
}

#[test]
fn progress_counts_up_to_the_whole() {
    let dir = mixed();
    let last = Arc::new(std::sync::Mutex::new((0, 0, 0, 0)));
    let seen = Arc::clone(&last);
    let options = options(|options| {
        options.progress = Arc::new(move |event: &Event<'_>| {
            if let Event::Archived { files, files_total, bytes, bytes_total, .. } = *event {
                let mut last = seen.lock().unwrap();
                assert!(files >= last.0 && bytes >= last.2, "{event:?}");
                *last = (files, files_total, bytes, bytes_total);
            }
            ControlFlow::Continue(())
        });
    });
    let (created, _) = archive(dir.path(), &options).unwrap();
    let bytes = created.report.original_bytes;
    assert_eq!(*last.lock().unwrap(), (202, 202, bytes, bytes));
}
