//! What is run of each command: at least once so that it succeeds, and once so that it fails.

/// Who looks at the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Face {
    /// Standard output and standard error are files.
    Pipe,
    /// Somebody sits there.
    Terminal,
    /// `-o json`, and `-o jsonl` besides.
    Json,
}

const ALL: &[Face] = &[Face::Pipe, Face::Terminal, Face::Json];
const PIPE: &[Face] = &[Face::Pipe];
const PEOPLE: &[Face] = &[Face::Pipe, Face::Terminal];

/// A command line, and what is known about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) line: &'static str,
    pub(super) code: i32,
    /// The schema of the document.
    pub(super) schema: Option<&'static str>,
    /// Whether it changes anything, so that it cannot be run twice with the same outcome.
    pub(super) writes: bool,
    /// Whether it needs a registry; otherwise the archive is `oci:layout:v1`.
    pub(super) served: bool,
    /// Commands that are run first.
    pub(super) before: &'static [&'static str],
    /// Whether there are digests that differ from run to run.
    pub(super) random: bool,
    /// Before, behind, name: what stands between the first two differs from run to run.
    pub(super) redacted: &'static [(&'static str, &'static str, &'static str)],
    pub(super) faces: &'static [Face],
    /// Whether the exit code says it all.
    pub(super) silent: bool,
}

impl Case {
    const fn json(self, schema: &'static str) -> Self {
        Self { schema: Some(schema), ..self }
    }

    const fn fails(self, code: i32) -> Self {
        Self { code, ..self }
    }

    const fn served(self) -> Self {
        Self { served: true, ..self }
    }

    const fn before(self, before: &'static [&'static str]) -> Self {
        Self { before, ..self }
    }

    const fn random(self) -> Self {
        Self { random: true, ..self }
    }

    const fn redacted(self, redacted: &'static [(&'static str, &'static str, &'static str)]) -> Self {
        Self { redacted, ..self }
    }

    const fn only(self, faces: &'static [Face]) -> Self {
        Self { faces, ..self }
    }

    const fn silent(self) -> Self {
        Self { silent: true, ..self }
    }
}

/// Changes nothing.
const fn read(line: &'static str) -> Case {
    Case {
        line,
        code: 0,
        schema: None,
        writes: false,
        served: false,
        before: &[],
        random: false,
        redacted: &[],
        faces: ALL,
        silent: false,
    }
}

/// Changes something.
const fn write(line: &'static str) -> Case {
    Case { writes: true, ..read(line) }
}

const KEY: &[&str] = &["generate-key-pair k"];
const SIGNED: &[&str] = &["generate-key-pair k", "sign --key k.key HOST/team/project:v1"];
const BUNDLE: &[&str] = &["generate-key-pair k", "sign --key k.key --output-bundle b.json HOST/team/project:v1"];
const SAVED: &[&str] = &["save -q oci:layout:v1 saved.tar"];
const PACKED: &[&str] = &["pack -q --reproducible project packed"];
const SECOND: &[&str] = &["push -q --reproducible --exclude docs oci:layout:v2 project"];

/// The cases by command.
pub(super) const GROUPS: &[(&str, &[Case])] = &[
    (
        "push",
        &[
            write("push --reproducible -t latest HOST/team/new:v1 project").served().json("push"),
            read("push --reproducible HOST/team/project:v1 project").served().json("push"),
            read("push --reproducible --dry-run HOST/team/new:v1 project").served().json("push"),
            write("push --reproducible oci:new:v1 project").json("push"),
            write("push --reproducible --key k.key HOST/team/new:v1 project")
                .served()
                .before(KEY)
                .random()
                .json("push"),
            read("push HOST/team/new:v1 nowhere").served().fails(3),
            read("push HOST/team/new:v1").served().fails(2),
        ],
    ),
    (
        "pull",
        &[
            write("pull HOST/team/project:v1 out").served().json("pull"),
            read("pull --dry-run oci:layout:v1 out").json("plan"),
            read("pull --dry-run --sync --delete oci:layout:v2 project").before(SECOND).json("plan"),
            write("pull oci:layout:v2 project")
                .before(&["push -q --reproducible --no-symlinks oci:layout:v2 home"])
                .json("pull"),
            read("pull --overwrite=if-newer --dry-run oci:layout:v1 project").json("plan"),
            write("pull --strip-components 1 oci:layout:v1 out").json("pull"),
            read("pull --strip-components 9 oci:layout:v1 out").fails(3),
            read("pull HOST/team/project:none out").served().fails(3),
            read("pull -p dosc oci:layout:v1 out").fails(3),
        ],
    ),
    (
        "pack",
        &[
            write("pack --reproducible project packed").json("pack"),
            write("pack --reproducible --symlinks follow -a a=b --exclude docs project packed").json("pack"),
            read("pack --reproducible --dry-run project packed").json("pack"),
            read("pack project nowhere/else").before(&["pack project nowhere/else"]).fails(1),
            read("pack nowhere packed").fails(3),
        ],
    ),
    (
        "unpack",
        &[
            write("unpack packed out").before(PACKED).json("pull"),
            read("unpack --dry-run -p docs packed out").before(PACKED).json("plan"),
            read("unpack project out").fails(3),
        ],
    ),
    (
        "cat",
        &[
            read("cat oci:layout:v1 README.md config/app.yaml").only(PEOPLE),
            read("cat --offset 2 --count 6 oci:layout:v1 README.md").only(PEOPLE),
            read("cat --head 3 --tail 2 oci:layout:v1 README.md").fails(2),
            read("cat oci:layout:v1 config/app.yml").fails(3),
            read("cat oci:layout:v1 docs").fails(2),
        ],
    ),
    (
        "ls",
        &[
            read("ls HOST/team/project:v1").served().json("ls"),
            read("ls -lh --digest oci:layout:v1 config").json("ls"),
            read("ls -R -o table oci:layout:v1").only(PEOPLE),
            read("ls -l -o plain oci:layout:v1").only(PIPE),
            read("ls oci:layout:v1 docs config README.md").json("ls"),
            read("ls -lS oci:layout:v1 config").only(PEOPLE),
            read("ls -d oci:layout:v1 docs empty").json("ls"),
            read("ls -o csv oci:layout:v1 config").only(PIPE),
            read("ls HOST/team/project:v2").served().fails(3),
            read("ls oci:layout:v1 doc").fails(3),
        ],
    ),
    (
        "tree",
        &[
            read("tree oci:layout:v1").json("tree"),
            read("tree -L 1 --dirsfirst oci:layout:v1 docs").json("tree"),
            read("tree oci:layout:v1 empty").json("tree"),
            read("tree -o plain oci:layout:v1").only(PIPE),
            read("tree oci:layout:v1 README.md").fails(2),
        ],
    ),
    (
        "cp",
        &[
            write("cp oci:layout:v1:/README.md oci:layout:v1:/docs out/").json("cp"),
            write("cp HOST/team/project:v1:/run.sh run.sh").served().json("cp"),
            read("cp --dry-run oci:layout:v1:/docs out").json("plan"),
            write("cp -n oci:layout:v1:/README.md oci:layout:v1:/docs project").json("cp"),
            write("cp -T oci:layout:v1:/docs out").json("cp"),
            write("cp --strip-components 1 oci:layout:v1:/docs oci:layout:v1:/README.md out").json("cp"),
            read("cp oci:layout:v1 oci:layout:v2").fails(2),
            read("cp -nu oci:layout:v1:/README.md out").fails(2),
            read("cp oci:layout:v1:/README.md -").only(PEOPLE),
            read("cp oci:layout:v1:/README.me out").fails(3),
            read("cp oci:layout:v1 out").fails(2),
        ],
    ),
    (
        "inspect",
        &[
            read("inspect oci:layout:v1").json("inspect"),
            read("inspect --referrers HOST/team/project:v1").served().json("inspect"),
            read("inspect --referrers --key k.pub --insecure-ignore-tlog HOST/team/project:v1")
                .served()
                .before(SIGNED)
                .random()
                .json("inspect"),
            read("inspect --raw oci:layout:v1").only(PEOPLE),
            read("inspect oci:layout:v2").fails(3),
        ],
    ),
    (
        "mount",
        &[
            read("mount oci:layout:v1 project").fails(2),
            read("mount oci:layout:v1 nowhere").fails(2),
            read("mount HOST/team/project:none project/empty").served().fails(3),
        ],
    ),
    (
        "web",
        &[
            read("web --listen nowhere:x oci:layout:v1").fails(2),
            read("web --spool-dir nowhere oci:layout:v1").fails(2),
            read("web HOST/team/project:none").served().fails(3),
        ],
    ),
    (
        "open",
        &[read("open oci:layout:v1").fails(2).only(PIPE), read("open oci:layout:v2").fails(3).only(&[Face::Terminal])],
    ),
    (
        "sign",
        &[
            write("sign --key k.key HOST/team/project:v1").served().before(KEY).random().json("sign"),
            read("sign --key k.key HOST/team/project:v1").served().before(SIGNED).random().json("sign"),
            read("sign --key nowhere.key HOST/team/project:v1").served().fails(2),
        ],
    ),
    (
        "attest",
        &[
            write("attest --key k.key --type vuln --predicate predicate.json HOST/team/project:v1")
                .served()
                .before(KEY)
                .random()
                .json("attest"),
            read("attest --key k.key --type vuln --predicate nowhere.json HOST/team/project:v1")
                .served()
                .before(KEY)
                .fails(3),
        ],
    ),
    (
        "generate-key-pair",
        &[
            write("generate-key-pair pair").random().json("generate-key-pair"),
            read("generate-key-pair k").before(KEY).fails(2),
        ],
    ),
    (
        "verify",
        &[
            read("verify --explain --key k.pub --insecure-ignore-tlog HOST/team/project:v1")
                .served()
                .before(SIGNED)
                .random()
                .json("verify"),
            read("verify --explain --key k.pub --insecure-ignore-tlog HOST/team/project:v1")
                .served()
                .before(KEY)
                .fails(6)
                .random()
                .json("verify"),
            read("verify HOST/team/project:v1").served().fails(2),
        ],
    ),
    (
        "verify-bundle",
        &[
            read("verify-bundle --bundle b.json --key k.pub project/README.md")
                .served()
                .before(BUNDLE)
                .fails(6)
                .random(),
            read("verify-bundle --bundle nowhere.json --key k.pub project/README.md").fails(3),
        ],
    ),
    (
        "policy",
        &[
            read("policy check policy.yaml").before(KEY).random().json("policy-check"),
            read("policy test --policy policy.yaml manifest.json").before(KEY).fails(6).random().json("policy-test"),
            read("policy check nowhere.yaml").fails(2),
            write("policy init --repo acme/app --tags v* new.yaml").json("policy-init"),
            read("policy init --key k.pub --insecure-ignore-tlog").before(KEY).only(PEOPLE),
            read("policy init --dry-run --google-account ann@example.com new.yaml").json("policy-init"),
            read("policy init new.yaml").fails(2),
            read("policy init --repo acme/app policy.yaml").fails(2),
        ],
    ),
    (
        "tag",
        &[
            write("tag HOST/team/project:v1 latest HOST/team/project:stable").served().json("tag"),
            read("tag HOST/team/project:v2 latest").served().fails(3),
            read("tag HOST/team/project:v1 HOST/other:v1").served().fails(2),
        ],
    ),
    (
        "tags",
        &[
            read("tags HOST/team/project").served().json("tags"),
            read("tags --digests oci:layout").before(SECOND).json("tags"),
            read("tags HOST/team/nothing").served().fails(3),
            read("tags -o csv --digests oci:layout").only(PIPE),
        ],
    ),
    (
        "repos",
        &[
            read("repos HOST").served().json("repos"),
            read("repos --filter other/* HOST").served().json("repos"),
            read("repos HOST/team").served().fails(2),
        ],
    ),
    (
        "copy",
        &[
            write("copy oci:layout:v1 oci:copied:v1 -t latest").json("copy"),
            write("copy --all-tags --no-clobber oci:layout oci:copied")
                .before(&["copy oci:layout:v1 oci:copied"])
                .json("copy"),
            read("copy --dry-run HOST/team/project:v1 oci:copied").served().json("copy"),
            read("copy oci:layout:v2 oci:copied:v1").fails(3),
        ],
    ),
    (
        "save",
        &[
            write("save oci:layout:v1 new.tar").json("save"),
            read("save --dry-run oci:layout:v1 new.tar").json("save"),
            read("save oci:layout:none new.tar").fails(3),
            read("save oci:layout:v1 oci:layout:v1 new.tar").fails(2),
        ],
    ),
    (
        "load",
        &[
            write("load saved.tar oci:loaded").before(SAVED).json("load"),
            read("load --dry-run saved.tar oci:loaded:other").before(SAVED).json("load"),
            read("load none.tar oci:loaded").fails(3),
        ],
    ),
    (
        "rm",
        &[
            write("rm --yes HOST/team/project:v1").served().json("rm"),
            write("rm --yes --manifest --referrers HOST/team/project:v1").served().before(SIGNED).random().json("rm"),
            read("rm --dry-run oci:layout:v1").json("rm"),
            read("rm HOST/team/project:v1").served().fails(2).only(&[Face::Pipe, Face::Json]),
            read("rm --yes HOST/team/project:v2").served().fails(3),
        ],
    ),
    (
        "referrers",
        &[
            read("referrers HOST/team/project:v1").served().json("referrers"),
            read("referrers --tree HOST/team/project:v1").served().before(SIGNED).random().json("referrers"),
            read("referrers HOST/team/project:v2").served().fails(3),
        ],
    ),
    (
        "attach",
        &[
            write(
                "attach --type text/plain -a by=ann HOST/team/project:v1 project/README.md predicate.json:text/plain",
            )
            .served()
            .json("attach"),
            read("attach --dry-run --type application/spdx+json oci:layout:v1 project/run.sh").json("attach"),
            read("attach --type spdx oci:layout:v1 project/README.md").fails(2),
            read("attach --type text/plain oci:layout:v1 project").fails(2),
            read("attach --type text/plain oci:layout:v1 nowhere").fails(3),
            read("attach --type text/plain oci:layout:v2 project/README.md").fails(3),
        ],
    ),
    (
        "download",
        &[
            write("download HOST/team/project:v1 readme")
                .served()
                .before(&["attach -q --type text/plain HOST/team/project:v1 project/README.md"])
                .json("download"),
            read("download --dry-run oci:layout:v1")
                .before(&["attach -q --type text/x oci:layout:v1 project/README.md project/run.sh"])
                .json("download"),
            read("download oci:layout:v1 -")
                .before(&["attach -q --type text/x oci:layout:v1 project/README.md"])
                .only(PEOPLE),
            read("download oci:layout:v1 out")
                .before(&[
                    "attach -q --type text/x oci:layout:v1 project/README.md",
                    "attach -q --type text/y oci:layout:v1 project/README.md",
                ])
                .fails(2),
            read("download oci:layout:v1").fails(3),
            read("download --type text/x oci:layout:v1").fails(3),
            read("download oci:layout:v2").fails(3),
        ],
    ),
    (
        "diff",
        &[
            read("diff oci:layout:v1 project").json("diff"),
            read("diff oci:layout:v1 oci:layout:v2").before(SECOND).fails(1).silent().json("diff"),
            read("diff --stat oci:layout:v1 oci:layout:v2").before(SECOND).fails(1).silent().only(PEOPLE),
            read("diff --patch oci:layout:v1 oci:layout:v2").before(SECOND).fails(1).silent().only(PEOPLE),
            read("diff --patch -o json oci:layout:v1 project").fails(2).only(PIPE),
            read("diff oci:layout:v1 oci:layout:v3").fails(3),
        ],
    ),
    (
        "check",
        &[
            read("check --read-data oci:layout:v1 project").json("check"),
            read("check oci:layout:v2 project").before(SECOND).fails(1).silent().json("check"),
            read("check oci:layout:v3").fails(3),
        ],
    ),
    (
        "export",
        &[
            write("export -f out.tar oci:layout:v1").json("export"),
            read("export oci:layout:v1").fails(2).only(&[Face::Terminal]),
            read("export oci:layout:v1 nothing").fails(3).only(&[Face::Pipe, Face::Json]),
        ],
    ),
    (
        "find",
        &[
            read("find oci:layout:v1 --name *.md").json("find"),
            read("find -l oci:layout:v1 config --type f").json("find"),
            read("find oci:layout:v1 --type f,d --regex ^docs/").json("find"),
            read("find oci:layout:v1 --mode /111").json("find"),
            read("find oci:layout:v1 --mode 9").fails(2),
            read("find oci:layout:v1 conf").fails(3),
        ],
    ),
    (
        "grep",
        &[
            read("grep e$ oci:layout:v1").json("grep"),
            read("grep -i -C1 VERSION oci:layout:v1 config/app.yaml").json("grep"),
            read("grep -l e oci:layout:v1").json("grep"),
            read("grep -c e oci:layout:v1 config docs").json("grep"),
            read("grep --color always --heading -n -w hello oci:layout:v1").only(PEOPLE),
            read("grep nowhere oci:layout:v1").fails(1).silent().json("grep"),
            read("grep ( oci:layout:v1").fails(2),
            read("grep x oci:layout:v1 conf").fails(3),
        ],
    ),
    (
        "du",
        &[
            read("du -h oci:layout:v1").json("du"),
            read("du -s oci:layout:v1 docs config").json("du"),
            read("du --ncdu oci:layout:v1 config").only(PIPE),
            read("du oci:layout:v1 nothing").fails(3),
        ],
    ),
    (
        "stat",
        &[read("stat oci:layout:v1 run.sh docs settings").json("stat"), read("stat oci:layout:v1 rum.sh").fails(3)],
    ),
    (
        "cache",
        &[
            read("cache status").json("cache-status"),
            read("cache path").json("cache-path"),
            // Sizes are those of the file system.
            write("cache clear --force")
                .served()
                .before(&["pull -q HOST/team/project:v1 out"])
                .redacted(&[
                    ("Cleared ", " (", "SIZE"),
                    ("total_size_cleared\": ", ",", "SIZE"),
                    ("total_size_human\": ", ",", "SIZE"),
                ])
                .json("cache-clear"),
            read("cache verify").json("cache-verify"),
            read("cache prune --max 1G").json("cache-prune"),
            read("cache prune --older-than 30d --dry-run").json("cache-prune"),
            read("cache prune --older-than long").fails(2),
            read("cache clear content").fails(2).only(&[Face::Json]),
            read("cache clear frobs").fails(2),
        ],
    ),
    (
        "gc",
        &[
            write("gc --grace 0s layout").before(&["rm -q --yes --manifest oci:layout:v1"]).json("gc"),
            read("gc --dry-run layout").json("gc"),
            read("gc nowhere").fails(3),
        ],
    ),
    (
        "login",
        &[write("login -u ann --no-check registry.test").json("login"), read("login registry.test/team").fails(2)],
    ),
    ("logout", &[read("logout registry.test").json("logout"), read("logout registry.test/team").fails(2)]),
    (
        "alias",
        &[
            write("alias add data registry.test/team/data").json("alias-add"),
            read("alias list")
                .before(&["alias add data registry.test/team/data", "alias add d registry.test/d:v1"])
                .json("alias-list"),
            read("alias list").json("alias-list"),
            write("alias rm data").before(&["alias add data registry.test/team/data"]).json("alias-rm"),
            read("alias rm dat").before(&["alias add data registry.test/team/data"]).fails(3),
            read("alias add data not:a:reference").fails(2),
        ],
    ),
    (
        "config",
        &[
            read("config show").json("config-show"),
            read("config show --origin").before(&["config set cache.max_size 1G"]).json("config-show"),
            read("config get cache.max_size").before(&["config set cache.max_size 1G"]).json("config-get"),
            write("config set cache.max_size 1G").json("config-set"),
            write("config unset cache.max_size").before(&["config set cache.max_size 1G"]).json("config-unset"),
            read("config edit").before(&["config set cache.max_size 1G"]).json("config-edit"),
            read("config path").json("config-path"),
            read("config validate").before(&["config set cache.max_size 1G"]).json("config-validate"),
            read("config get cache.maxsize").fails(2),
            read("config set cache.max_size much").fails(2),
        ],
    ),
    ("doctor", &[read("doctor oci:layout:v1").json("doctor"), read("doctor oci:layout:v2").fails(3).json("doctor")]),
    ("serve", &[read("serve --file nowhere.yaml").fails(2)]),
    ("completion", &[read("completion fish").only(PIPE), read("completion csh").fails(2)]),
    (
        "man",
        &[
            write("man --dir pages").redacted(&[("Wrote ", " ", "N"), ("\"pages\": ", "\n", "N")]).json("man"),
            write("man -d project/README.md").fails(1),
            read("man project/README.md").fails(2),
            read("man cahce").fails(2),
            read("man cache clear").redacted(&[("\"blob ", "\"", "VERSION")]).only(PIPE),
        ],
    ),
    (
        "schema",
        &[
            read("schema").json("schema").only(&[Face::Pipe, Face::Json]),
            read("schema tags --lines").only(PIPE),
            read("schema ploicy").fails(2),
            read("schema push --lines").fails(2),
        ],
    ),
    (
        "version",
        &[
            read("version")
                .redacted(&[
                    ("blob ", "\n", "VERSION"),
                    ("target: ", "\n", "TARGET"),
                    ("\"target\": ", ",", "TARGET"),
                    ("\"version\": ", ",", "VERSION"),
                    ("\"profile\": ", ",", "PROFILE"),
                ])
                .json("version"),
            read("version --shrot").fails(2),
        ],
    ),
    (
        "help",
        &[
            read("help tags").redacted(&[("Global options:\n", "\0", "THE SAME FOR ALL")]).only(PEOPLE),
            read("help tagz").fails(2),
        ],
    ),
];
