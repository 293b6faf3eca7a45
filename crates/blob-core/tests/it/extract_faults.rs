//! Extraction when something fails or stops: sources, disks, callers, other processes.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use blob_core::{Event, Existing, ExtractError, ExtractOptions, Selection};
use futures_executor::block_on;
use futures_util::FutureExt as _;

use crate::extract::{assert_no_leftovers, expected, tree};
use crate::support::{Far, Fault, Pair, Remote, noise};

/// Many small files and two large ones.
fn many() -> Pair {
    let mut pair = Pair::new();
    for number in 0..200_u64 {
        let content = noise(20_000, number);
        let path = format!("d{}/f{number}", number % 7);
        pair = if number % 3 == 0 { pair.zstd(&path, &content) } else { pair.plain(&path, &content) };
    }
    pair.plain("large", &noise(9 << 20, 1000)).zstd("larger", &noise(3 << 20, 1001).repeat(4))
}

fn in_place(dir: &Path) -> std::path::PathBuf {
    std::fs::create_dir_all(dir.join("dest")).unwrap();
    std::fs::write(dir.join("dest/other"), "").unwrap();
    dir.join("dest")
}

fn run(archive: &blob_core::Archive, dest: &Path, options: &ExtractOptions) -> Result<(), ExtractError> {
    block_on(archive.extract(Selection::everything(), dest, options)).map(drop)
}

/// Whatever stands below `dest` is whole.
fn assert_whole(archive: &blob_core::Archive, dest: &Path) {
    let expected = expected(archive);
    for (path, content) in tree(dest) {
        if path != b"other" {
            assert!(expected.get(&path) == Some(&content), "{}", String::from_utf8_lossy(&path));
        }
    }
    assert_no_leftovers(dest);
}

#[test]
fn sources_that_fail_leave_nothing_half_written() {
    let pair = many();
    let sound = pair.local();
    let large = pair.index().entry("large").unwrap().range();
    let larger = pair.index().entry("larger").unwrap().range();
    for at in [0, 1_234_567, large.start + 5_000_000, larger.end - 10] {
        for fault in [Fault::Truncate, Fault::Fail, Fault::Flip] {
            let temp = tempfile::tempdir().unwrap();
            let dest = in_place(temp.path());
            let archive = pair.over(Arc::new(Far(Remote::faulty(pair.data.clone(), at, fault))));
            let error = run(&archive, &dest, &ExtractOptions::default()).unwrap_err();
            let ExtractError::Read(error) = error else { panic!("{at} {fault:?}: {error}") };
            assert_eq!(error.is_corrupt(), fault == Fault::Flip, "{error}");
            assert_eq!(error.is_transient(), fault != Fault::Flip, "{error}");
            assert!(error.path().is_some_and(|path| sound.entry(path).is_some()));
            assert_whole(&sound, &dest);
            let error = run(&archive, &temp.path().join("fresh"), &ExtractOptions::default());
            assert!(error.is_err() && !temp.path().join("fresh").exists());
            assert_no_leftovers(temp.path());
        }
    }
}

#[test]
fn a_wrong_byte_anywhere_is_found_at_hand_too() {
    let pair = Pair::new().plain("plain", b"some plain content").zstd("packed", &b"packed ".repeat(20));
    for at in 0..pair.data.len() {
        let mut data = pair.data.clone();
        data[at] ^= 1;
        let temp = tempfile::tempdir().unwrap();
        let archive = pair.over(Arc::new(blob_core::MemorySource::new(data)));
        let dest = in_place(temp.path());
        let ExtractError::Read(error) = run(&archive, &dest, &ExtractOptions::default()).unwrap_err() else {
            panic!("byte {at}")
        };
        let wrong = String::from_utf8(error.path().unwrap().to_vec()).unwrap();
        assert!(!dest.join(&wrong).exists(), "{wrong}");
        assert_whole(&pair.local(), &dest);
    }
}

#[test]
fn memory_between_source_and_disk_is_bounded() {
    let pair = many();
    let remote = pair.remote();
    let archive = pair.over(Arc::new(Far(Arc::clone(&remote))));
    let temp = tempfile::tempdir().unwrap();
    let mut options = ExtractOptions::default();
    (options.read_ahead_bytes, options.chunk_bytes, options.read_concurrency) = (3 << 20, 512 << 10, 3);
    // The first file that is written waits, and the rest of the world with it.
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let inner = Arc::clone(&gate);
    options.workers = std::num::NonZero::new(1);
    options.progress = Some(Arc::new(move |_: &Event<'_>| {
        let (open, changed) = &*inner;
        let mut open = open.lock().unwrap();
        while !*open {
            open = changed.wait(open).unwrap();
        }
        ControlFlow::Continue(())
    }));
    let extraction = archive.extract(Selection::everything(), temp.path().join("out"), &options);
    let mut extraction = Box::pin(extraction);
    let mut quiet = 0;
    let mut last = 0;
    while quiet < 200 {
        assert!(extraction.as_mut().now_or_never().is_none(), "it waits at the gate");
        std::thread::yield_now();
        std::thread::sleep(std::time::Duration::from_micros(200));
        let served = remote.served.load(Ordering::SeqCst);
        quiet = if served == last && served > 0 { quiet + 1 } else { 0 };
        last = served;
    }
    // The larges come first, and one of them is being written: its pipe has drained as far as the content goes.
    let written = 12 << 20;
    assert!(last <= written + (3 << 20) + 3 * (16 << 10), "{last} bytes were fetched");
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    let report = block_on(extraction).unwrap();
    assert!(report.peak_buffered_bytes <= 4 << 20, "{}", report.peak_buffered_bytes);
    assert!(remote.peak_streams.load(Ordering::SeqCst) <= 3);
    assert_eq!((remote.held(), remote.streams.load(Ordering::SeqCst)), (0, 0));
    assert_eq!(tree(&temp.path().join("out")), expected(&pair.local()));
}

#[test]
fn requests_are_few_and_every_byte_is_fetched_once() {
    let mut pair = Pair::new();
    for number in 0..300_u64 {
        pair = pair.plain(&format!("f{number}"), &noise(10_000, number));
    }
    let pair = pair.plain("copy", &noise(10_000, 7)).zstd("empty", b"");
    let remote = pair.remote();
    let archive = pair.over(Arc::new(Far(Arc::clone(&remote))));
    let temp = tempfile::tempdir().unwrap();
    let mut options = ExtractOptions::default();
    options.chunk_bytes = 1 << 20;
    run(&archive, &temp.path().join("all"), &options).unwrap();
    assert_eq!(remote.requests(), 3);
    assert_eq!(remote.served.load(Ordering::SeqCst), pair.data.len() as u64);
    // Two of three neighbours in one request, a far one in another.
    options.max_gap = 20_000;
    let (before, selection) = (remote.requests(), Selection::paths(["f1", "f3", "f200"]));
    block_on(archive.extract(selection, temp.path().join("some"), &options)).unwrap();
    assert_eq!(remote.requests() - before, 2);
}

#[test]
fn a_tiny_budget_never_hangs() {
    let pair = many();
    for (budget, concurrency, workers) in [(1, 4, 1), (30_000, 1, 2), (3 << 20, 8, 3)] {
        let archive = pair.over(Arc::new(Far(pair.remote())));
        let temp = tempfile::tempdir().unwrap();
        let mut options = ExtractOptions::default();
        (options.read_ahead_bytes, options.chunk_bytes, options.read_concurrency) = (budget, 100_000, concurrency);
        options.workers = std::num::NonZero::new(workers);
        run(&archive, &temp.path().join("out"), &options).unwrap();
        assert!(tree(&temp.path().join("out")) == expected(&pair.local()));
    }
}

#[test]
fn a_dropped_extraction_cleans_up() {
    let pair = many();
    for dest in ["fresh", "dest"] {
        let temp = tempfile::tempdir().unwrap();
        in_place(temp.path());
        let at = pair.index().entry("larger").unwrap().range().start + 1_000_000;
        let remote = Remote::faulty(pair.data.clone(), at, Fault::Stall);
        let archive = pair.over(Arc::new(Far(Arc::clone(&remote))));
        let started = Arc::new(AtomicBool::new(false));
        let (seen, mut options) = (Arc::clone(&started), ExtractOptions::default());
        options.progress = Some(Arc::new(move |_: &Event<'_>| {
            seen.store(true, Ordering::SeqCst);
            ControlFlow::Continue(())
        }));
        let mut extraction = Box::pin(archive.extract(Selection::everything(), temp.path().join(dest), &options));
        while !started.load(Ordering::SeqCst) {
            assert!(extraction.as_mut().now_or_never().is_none());
            std::thread::yield_now();
        }
        drop(extraction);
        drop(options);
        // The threads hold the archive until they have cleaned up.
        drop(archive);
        while Arc::strong_count(&remote) > 1 {
            std::thread::yield_now();
        }
        assert_eq!((remote.held(), remote.streams.load(Ordering::SeqCst)), (0, 0));
        assert!(!temp.path().join("fresh").exists());
        assert_no_leftovers(temp.path());
        assert_whole(&pair.local(), &temp.path().join("dest"));
    }
}

#[test]
fn progress_counts_and_cancels() {
    let pair = many();
    let temp = tempfile::tempdir().unwrap();
    let archives = [pair.local(), pair.over(Arc::new(Far(pair.remote())))];
    for (number, archive) in archives.iter().enumerate() {
        let last = Arc::new(Mutex::new((0, 0)));
        let (seen, mut options) = (Arc::clone(&last), ExtractOptions::default());
        options.progress = Some(Arc::new(move |event: &Event<'_>| {
            if let Event::Extracted { files, files_total: 202, bytes, bytes_total, .. } = event {
                assert!(bytes <= bytes_total);
                let mut last = seen.lock().unwrap();
                *last = (last.0.max(*files), last.1.max(*bytes));
            }
            ControlFlow::Continue(())
        }));
        run(archive, &temp.path().join(format!("all{number}")), &options).unwrap();
        assert_eq!(*last.lock().unwrap(), (202, archive.index().original_bytes()));

        let events = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&events);
        options.progress = Some(Arc::new(move |_: &Event<'_>| {
            if seen.fetch_add(1, Ordering::SeqCst) < 20 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        }));
        let dest = temp.path().join(format!("cancelled{number}"));
        assert!(matches!(run(archive, &dest, &options), Err(ExtractError::Cancelled)));
        assert!(!dest.exists() && events.load(Ordering::SeqCst) < 100);
        assert_no_leftovers(temp.path());
    }
}

#[test]
fn a_full_disk_is_reported_and_cleaned_up() {
    // A file system of one MiB, mounted where the tests may mount; the limit on file sizes stands in elsewhere.
    if let Some(dir) = std::env::var_os("BLOB_TEST_FULL") {
        let dir = Path::new(&dir);
        let pair = many();
        for dest in [dir.join("fresh"), in_place(dir)] {
            let error = run(&pair.local(), &dest, &ExtractOptions::default()).unwrap_err();
            let ExtractError::Io { source, .. } = &error else { panic!("{error}") };
            let known = [std::io::ErrorKind::StorageFull, std::io::ErrorKind::FileTooLarge];
            assert!(known.contains(&source.kind()), "{error}: {source}");
        }
        assert!(!dir.join("fresh").exists());
        assert_no_leftovers(dir);
        assert_whole(&pair.local(), &dir.join("dest"));
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().to_str().unwrap();
    let test = std::env::current_exe().unwrap();
    let name = "extract_faults::a_full_disk_is_reported_and_cleaned_up";
    // XFSZ would end the process before the error is seen: it is ignored.
    let script = format!(
        "if mount -t tmpfs -o size=1m blob-test {dir} 2>/dev/null; then :; else trap '' XFSZ; ulimit -f 8; fi; \
         BLOB_TEST_FULL={dir} {} --exact {name}",
        test.display()
    );
    let unshared = std::process::Command::new("unshare").args(["-m", "sh", "-c", &script]).output();
    let output = match unshared {
        Ok(output) if output.status.success() => output,
        _ => std::process::Command::new("sh").args(["-c", &script]).output().unwrap(),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn few_file_descriptors_are_enough() {
    if std::env::var_os("BLOB_TEST_FDS").is_some() {
        let temp = tempfile::tempdir().unwrap();
        let pair = many();
        run(&pair.local(), &temp.path().join("out"), &ExtractOptions::default()).unwrap();
        let compare = |o: &mut ExtractOptions| o.existing = Existing::KeepEqual;
        let mut options = ExtractOptions::default();
        compare(&mut options);
        run(&pair.local(), &temp.path().join("out"), &options).unwrap();
        return;
    }
    let script = format!(
        "ulimit -n 64; {} --exact extract_faults::few_file_descriptors_are_enough",
        std::env::current_exe().unwrap().display()
    );
    let output = std::process::Command::new("sh").args(["-c", &script]).env("BLOB_TEST_FDS", "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_umask_is_honoured() {
    use std::os::unix::fs::MetadataExt as _;
    if let Some(dir) = std::env::var_os("BLOB_TEST_UMASK") {
        let pair = Pair::new().file("d/run", b"#!", blob_core::Compression::None, 0o777).dir("e", 0o777);
        let mut options = ExtractOptions::default();
        options.preserve_mode = true;
        let dest = Path::new(&dir).join("out");
        run(&pair.local(), &dest, &options).unwrap();
        let mode = |name: &str| std::fs::metadata(dest.join(name)).unwrap().mode() & 0o7777;
        assert_eq!(["", "d", "d/run", "e"].map(mode), [0o750; 4]);
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let script = format!(
        "umask 027; {} --exact extract_faults::the_umask_is_honoured",
        std::env::current_exe().unwrap().display()
    );
    let output =
        std::process::Command::new("sh").args(["-c", &script]).env("BLOB_TEST_UMASK", temp.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn processes_that_share_a_destination_finish_it_together() {
    if let Some(dest) = std::env::var_os("BLOB_TEST_SHARED") {
        let mut options = ExtractOptions::default();
        options.existing = Existing::KeepEqual;
        run(&many().local(), Path::new(&dest), &options).unwrap();
        return;
    }
    let pair = many();
    for round in 0..3 {
        let temp = tempfile::tempdir().unwrap();
        let dest = if round == 2 { in_place(temp.path()) } else { temp.path().join("new") };
        let children: Vec<_> = (0..3)
            .map(|_| {
                std::process::Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "extract_faults::processes_that_share_a_destination_finish_it_together"])
                    .env("BLOB_TEST_SHARED", &dest)
                    .stdout(std::process::Stdio::piped())
                    .stderr(std::process::Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
        std::fs::remove_file(dest.join("other")).ok();
        assert!(tree(&dest) == expected(&pair.local()));
        assert_no_leftovers(temp.path());
    }
}
