//! Help: every command has one, with examples, and wrong words are answered with what would be right.

use snapbox::str;

use crate::support::{Place, stderr, stdout};

#[test]
fn the_overview() {
    let place = Place::offline();
    place.run("--help").success().stderr_eq("").stdout_eq(str![[r#"
Store directories as archives in OCI registries, and read single files of them without fetching the
rest

Usage: blob [OPTIONS] <COMMAND>

Commands:
  push               Store a directory as an archive and push it
  pull               Extract an archive to a directory
  pack               Store a directory as an archive in files: index, data and manifest
  unpack             Extract an archive from files that `pack` wrote
  cat                Write files of an archive to standard output; only their bytes are fetched
  ls                 List a directory of an archive
  tree               Show the directories of an archive as a tree
  cp                 Copy files and directories out of archives
  inspect            Describe an archive without reading its files
  mount              Show an archive as a read-only file system
  web                Show an archive to browsers: a read-only web site, until it is interrupted
  open               Browse an archive in the terminal
  sign               Sign an archive, or any other manifest
  attest             Attach a signed statement to an archive: provenance, a scan, a bill of
                     materials
  generate-key-pair  Make a key pair to sign with: ECDSA over P-256
  verify             Verify signatures, provenance and rules without opening the archive
  verify-bundle      Verify a Sigstore bundle about a file or a digest, offline
  policy             Write policies and try them out, without a registry
  tag                Point tags at an archive, or at anything else in a repository
  tags               List the tags of a repository
  repos              List the repositories of a registry
  copy               Copy archives, or any other artifact, between registries and layouts
  save               Save archives with their signatures in a tar file
  load               Load the archives of a tar file, with their signatures, into a repository or
                     layout
  rm                 Delete tags or archives
  referrers          List what refers to an archive: signatures, attestations and other artifacts
  attach             Attach files to an archive: a bill of materials, a report, a licence
  download           Fetch what is attached to an archive: a bill of materials, a signature's
                     bundle, a report
  diff               Compare two archives, or an archive and a directory
  check              Check that an archive is whole, or that a directory is what the archive says
  export             Write an archive, or a part of it, as a tar stream or a ZIP file
  find               Find files in an archive by name, size, time or kind
  grep               Search files of an archive for lines that match a pattern; only files that are
                     searched are fetched
  du                 Add up the sizes of files in directories of an archive
  stat               Show everything that is recorded about files of an archive
  cache              Look after what was fetched and kept
  gc                 Remove what no manifest needs any more from a registry or an image layout on
                     disk
  login              Log in to a registry, and keep the login for other commands
  logout             Forget the login for a registry
  alias              Give repositories short names
  config             Look at the configuration, and change it
  doctor             Find out what is in the way: configuration, cache, network, log-in, what the
                     registry can do
  serve              Serve a registry over HTTP, from a directory or from memory, until it is
                     interrupted
  completion         Print what a shell needs to complete commands, options and aliases [alias:
                     completions]
  man                Write manual pages: one to standard output, or all to a directory
  schema             Print the JSON Schema of what a command writes for programs
  version            Print the version, and what was built
  help               Print this message or the help of the given subcommand(s)

Options:
  -h, --help
          Print help (see a summary with '-h')

  -V, --version
          Print version

Global options:
      --config <FILE>
          The user's configuration file [default: $XDG_CONFIG_HOME/blob/config.yaml, else
          ~/.config/blob/config.yaml]
          
          [env: BLOB_CONFIG]

  -o, --output <FORMAT>
          How results are written

          Possible values:
          - text:  For people
          - json:  One JSON document; errors are JSON too, on standard error
          - jsonl: JSON on one line, lists with a line for each item; errors are JSON too
          - plain: Tab-separated values without headings
          - csv:   Values with commas between, under headings, for spreadsheets
          - table: Aligned columns with headings
          
          [env: BLOB_OUTPUT=]
          [default: text]

      --format <TEMPLATE>
          Write results by a template as of docker and oras, such as '{{.digest}}', over what -o
          json has
          
          [env: BLOB_FORMAT=]

  -v, --verbose...
          Tell more on standard error: -v what happens, -vv every request, -vvv everything [env:
          BLOB_VERBOSE=]

      --log-format <FORMAT>
          How the log of -v and --trace-file is written: text or json
          
          [env: BLOB_LOG_FORMAT=]
          [default: text]

      --trace-file <FILE>
          Write a log of every request to this file, whatever -v says
          
          [env: BLOB_TRACE_FILE]

  -q, --quiet
          Leave out what is said besides data; push prints the digest reference alone
          
          [env: BLOB_QUIET=]

      --color <WHEN>
          When to use colour. NO_COLOR and CLICOLOR_FORCE are heeded
          
          [env: BLOB_COLOR=]
          [default: auto]

      --no-color
          Use no colour: --color never
          
          [env: BLOB_NO_COLOR=]

      --progress <WHEN>
          When to show progress on standard error [possible values: auto, always, never, json]
          
          [env: BLOB_PROGRESS=]
          [default: auto]

      --plain-http
          Speak plain HTTP to every registry: whoever is on the way can read and change what is sent
          
          [env: BLOB_PLAIN_HTTP=]

      --ca-file <FILE>
          Trust the certificate authorities in this PEM file too, and speak HTTPS to registries on
          this machine as well
          
          [env: BLOB_CA_FILE]

      --timeout <TIME>
          Give up when no byte has moved for this long: seconds, or 90s, 5m [default: 30]
          
          [env: BLOB_TIMEOUT=]

      --bwlimit <RATE>
          Move at most so many bytes a second, both directions together, as in 500K or 10M
          
          [env: BLOB_BWLIMIT=]

      --retries <N>
          Try failed requests again this many times in a row [default: 5]
          
          [env: BLOB_RETRIES=]

  -j, --jobs <N>
          How much is done at a time: threads that compress, decode and write, and requests; for
          tags of `copy --all-tags`, too [default: a thread for each core, 4 requests]
          
          [env: BLOB_JOBS=]

      --username <USER>
          The user for the registry that the command names; otherwise the logins are asked. Where a
          command names several registries, BLOB_REGISTRY says which one it is for
          
          [env: BLOB_USERNAME]

      --password-stdin
          Read the password from standard input; otherwise it is in BLOB_PASSWORD

      --registry-config <FILE>
          Keep logins in this file alone, and look for them nowhere else [default:
          REGISTRY_AUTH_FILE, else the files of Docker, Podman and Skopeo]
          
          [env: BLOB_REGISTRY_CONFIG]

      --cache-dir <DIR>
          Keep what was fetched in this directory [default: $XDG_CACHE_HOME/blob, else
          ~/.cache/blob]
          
          [env: BLOB_CACHE_DIR]

      --no-cache
          Use no cache, and keep nothing
          
          [env: BLOB_NO_CACHE=]

      --cache-max <SIZE>
          The most that the whole cache holds [default: 5G]
          
          [env: BLOB_CACHE_MAX=]

      --cache-layer-max <KIND=SIZE>
          The most that one kind of entries takes of it, as content=1G; kinds: content, blocks,
          refs, manifests, indexes
          
          [env: BLOB_CACHE_LAYER_MAX=]

      --cache-without <KIND>
          Do without these kinds of entries: content, blocks, refs, manifests, indexes
          
          [env: BLOB_CACHE_WITHOUT=]

      --tag-ttl <TIME>
          How long it is believed what a tag names, as 30s, 5m, 2h or 1d; 0 asks the registry each
          time [default: 5m]
          
          [env: BLOB_TAG_TTL=]

      --offline
          Send no request: answer from the cache, or say what is missing
          
          [env: BLOB_OFFLINE=]

      --require-signed
          Open only archives that a policy verified
          
          [env: BLOB_REQUIRE_SIGNED=]

      --max-index-size <SIZE>
          The largest index that is read [default: 256M]
          
          [env: BLOB_MAX_INDEX_SIZE=]

      --max-entries <N>
          The most files, links and empty directories of an archive that is opened [default:
          16777216]
          
          [env: BLOB_MAX_ENTRIES=]

Examples:
  blob push localhost:5000/team/assets:v1 ./assets      push a directory
  blob ls -lh localhost:5000/team/assets:v1 /images     list a directory of the archive
  blob cat localhost:5000/team/assets:v1 docs/intro.md  read one file; only its bytes are fetched
  blob cp localhost:5000/team/assets:v1:/images ./out   copy a directory out
  blob pull localhost:5000/team/assets:v1 ./copy        extract everything
  blob serve --listen 127.0.0.1:5000 --root ./registry  be the registry

References:
  HOST[:PORT]/REPOSITORY:TAG
  HOST[:PORT]/REPOSITORY@sha256:…
  oci:DIR:TAG                      an OCI image layout on disk
  oci-archive:FILE:TAG             one in a tar file

Registries on this machine are spoken to over plain HTTP; others need --plain-http for that.

Exit codes:
  0 done              1 failed            2 wrong usage       3 not found
  4 authentication    5 network           6 verification      7 wrong hash
  8 done in part      130 interrupted     143 terminated

Every option has a variable: BLOB_OUTPUT is --output, and BLOB_PULL_OVERWRITE is --overwrite of
`blob pull`. Options that may be repeated have a value on each line of theirs.

"#]]);
}

/// The help of every command, with the words that lead to it.
fn pages(place: &Place, columns: &str) -> Vec<(String, String)> {
    let (mut pages, mut open) = (Vec::new(), vec![String::new()]);
    while let Some(words) = open.pop() {
        let mut command = place.command(format!("{words} --help").trim());
        command.env("COLUMNS", columns);
        let help = stdout(&place.assert(&mut command).success().stderr_eq(""));
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        let names = names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
        open.extend(names.map(|name| format!("{words} {name}").trim().to_owned()));
        pages.push((words, help));
    }
    pages
}

#[test]
fn every_command_has_examples_that_fit() {
    let place = Place::offline();
    for (columns, widest) in [("80", 80), ("200", 110)] {
        let pages = pages(&place, columns);
        assert!(pages.len() > 50, "{}", pages.len());
        for (words, help) in pages {
            let example = help.split_once("Examples:\n").is_some_and(|(_, examples)| examples.contains("blob "));
            assert!(example || words == "policy", "{words}: {help}");
            assert!(help.contains(format!("Usage: blob {words}").trim_end()), "{words}: {help}");
            for line in help.lines() {
                assert!(line.chars().count() <= widest, "{words} at {columns}: {line}");
            }
        }
    }
}

#[test]
fn wrong_words() {
    let place = Place::offline();
    for (line, hint) in [
        ("pul", "hint: did you mean `pull`?; see `blob --help`\n"),
        ("help push pull", "hint: `blob help push` is the help of one command; see `blob --help`\n"),
        ("pull --overwite a b", "did you mean `--overwrite`?"),
        ("ls x --sort nam", "did you mean `name`?"),
    ] {
        let failed = place.run(line).code(2);
        assert!(stderr(&failed).contains(hint), "{line}: {}", stderr(&failed));
    }
    place.run("push").code(2).stdout_eq("").stderr_eq(str![[r#"
error: accepts 2 arg(s), received 0: missing <REF> <DIR>
hint: usage: blob push <REF> <DIR>

"#]]);
    place.run("tag x").code(2).stderr_eq(str![[r#"
error: requires at least 2 arg(s), only received 1: missing <TAG|REF>...
hint: usage: blob tag <SRC> <TAG|REF>...

"#]]);
    place.run("inspect x y").code(2).stderr_eq(str![[r#"
error: accepts 1 arg(s), received 2: what is "y"?
hint: usage: blob inspect <REF>

"#]]);
}
