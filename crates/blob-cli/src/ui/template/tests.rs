//! Templates against documents and samples.

#![allow(clippy::unwrap_used)]
use super::*;

fn document() -> Value {
    serde_json::json!({
        "digest": "sha256:1", "file_count": 2, "none": [], "tags": ["a", "b"],
        "entries": [{"path": "x", "is_dir": true, "size": 10}, {"path": "long y", "is_dir": false, "size": 9}],
        "annotations": {"a.b": "c"}, "odd": "\u{1b}[2J", "ratio": 0.5,
    })
}

const SCHEMA: &str = r##"{
    "$defs": {
        "Entry": {"type": "object", "properties": {"path": {"type": "string"}, "size": {"type": "integer"}, "within": {"$ref": "#/$defs/Entry"}}}
    },
    "properties": {
        "digest": {"type": "string"},
        "file_count": {"type": "integer"},
        "resolved_ref": {"type": "string"},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
        "entries": {"type": "array", "items": {"$ref": "#/$defs/Entry"}},
        "value": {"description": "Anything."}
    },
    "required": ["digest", "entries"],
    "type": "object"
}"##;

#[test]
fn templates_are_filled_in() {
    for (template, expected) in [
        ("{{.digest}}", "sha256:1\n"),
        ("{{ .Digest }} {{.FileCount}}\\n", "sha256:1 2\n"),
        ("{{json .tags}}", "[\"a\",\"b\"]\n"),
        ("{{range .entries}}{{.path}}{{if .is_dir}}/{{end}}\\n{{end}}", "x/\nlong y\n"),
        ("{{range .tags}}{{println . $.digest}}{{end}}", "a sha256:1\nb sha256:1\n"),
        ("{{range .none}}{{.}}{{else}}nothing{{end}}", "nothing\n"),
        ("{{join .tags \", \"}} {{len .entries}} {{index .tags 1}}", "a, b 2 b\n"),
        ("{{index .annotations \"a.b\"}}", "c\n"),
        ("{{if eq .file_count 2}}two{{else}}other{{end}}", "two\n"),
        ("{{if not .none}}empty{{end}}", "empty\n"),
        ("a  {{- .digest -}}  b", "asha256:1b\n"),
        ("{{\"quoted \\\" text }}\"}} {{`raw \\n`}}", "quoted \" text }} raw \\n\n"),
        ("{{range .entries}}{{.missing}}{{end}}x", "x\n"),
        ("{{.odd}}", "\\u{1b}[2J\n"),
        ("no action", "no action\n"),
        ("{{.digest | json}}|{{.tags|len}}", "\"sha256:1\"|2\n"),
        ("{{.digest | upper | printf \"%-10s|%q\" .file_count}}", "2         |\"SHA256:1\"\n"),
        ("{{printf \"%s-%4d %v%%\" .digest .file_count .none}}", "sha256:1-   2 []%\n"),
        ("{{printf \"%05d %+d %.2f %x %t %.3s\" 42 7 .ratio 255 true .digest}}", "00042 +7 0.50 ff true sha\n"),
        ("{{$n := .file_count}}{{range $i, $e := .tags}}{{$i}}/{{$n}}:{{$e}} {{end}}", "0/2:a 1/2:b \n"),
        ("{{range $name, $value := .annotations}}{{$name}}={{$value}}{{end}}", "a.b=c\n"),
        ("{{$sum := \"\"}}{{range .tags}}{{$sum = print $sum .}}{{end}}{{$sum}}", "ab\n"),
        ("{{range $e := .entries}}{{$e.path}},{{end}}", "x,long y,\n"),
        ("{{with index .entries 0}}{{.path}} of {{$.digest}}{{end}}", "x of sha256:1\n"),
        ("{{with .none}}some{{else}}no{{end}}{{with $x := .digest}}{{$x}}{{end}}", "nosha256:1\n"),
        ("{{if .none}}a{{else if gt .file_count 1}}b{{else}}c{{end}}", "b\n"),
        ("{{if .none}}a{{else with .digest}}{{.}}{{end}}", "sha256:1\n"),
        ("{{if and .tags (not .none) (or .none .digest)}}yes{{end}}", "yes\n"),
        ("{{and 1 0}} {{or \"\" \"x\"}} {{eq .file_count 1 2}} {{ne 1 1.0}}", "0 x true false\n"),
        (
            "{{lt 1 2}} {{le 2 2}} {{gt \"b\" \"a\"}} {{ge 1 2.5}} {{lt .nothing.at.all 1}}",
            "true true true false false\n",
        ),
        ("{{(index .entries 1).path | upper}} {{len (split .digest \":\")}}", "LONG Y 2\n"),
        ("{{index (split .digest \":\") 0}} {{slice .digest 0 3}} {{slice .tags 1}}", "sha256 sha [\"b\"]\n"),
        (
            "{{title \"two words\"}}{{pad \"x\" 1 2}}{{truncate .digest 3}} {{default \"-\" .none}}",
            "Two Words x  sha -\n",
        ),
        (
            "{{contains \"256\" .digest}} {{hasPrefix \"sha\" .digest}} {{.digest | replace \":\" \"-\"}}",
            "true true sha256-1\n",
        ),
        ("{{range .tags}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}", "a\n"),
        ("{{range .tags}}{{if eq . \"a\"}}{{continue}}{{end}}{{.}}{{end}}", "b\n"),
        ("a{{/* nothing */}}b {{- /* nothing */ -}} c", "abc\n"),
        ("{{print 1 2 \"x\" 3}}{{print}}", "1 2x3\n"),
        ("{{printf \"[%3d]\" .annotations.absent}}", "[   ]\n"),
        (
            "{{range 3}}{{.}}{{end}}{{range $i := .file_count}}<{{$i}}>{{end}}{{range 0}}{{else}}none{{end}}",
            "012<0><1>none\n",
        ),
        (
            "{{define \"e\"}}{{.path}}:{{$.size}} {{end}}{{range .entries}}{{template \"e\" .}}{{end}}",
            "x:10 long y:9 \n",
        ),
        ("{{template \"late\" .digest}}{{define \"late\"}}<{{.}}>{{end}}{{template \"late\"}}", "<sha256:1><>\n"),
        ("{{$x := 1}}{{block \"b\" .tags}}{{$x := 2}}{{range .}}{{.}}{{$x}}{{end}}{{end}}{{$x}}", "a2b21\n"),
        (
            "{{define \"l\"}}{{if .}}.{{template \"l\" (slice . 1)}}{{end}}{{end}}{{template \"l\" .digest}}",
            "........\n",
        ),
    ] {
        // What is outermost and not there is wrong where nobody knows what may be there.
        let mut understood = Template::parse(template).unwrap_or_else(|error| panic!("{template}: {error}"));
        understood.checked = true;
        assert_eq!(understood.render(&document()).unwrap(), expected, "{template}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    for (template, expected) in [
        ("{{.digest", "not closed by }}"),
        ("{{range .tags}}", "{{range}} is not closed by {{end}}"),
        ("{{with .tags}}{{else}}", "{{with}} is not closed by {{end}}"),
        ("{{if .a}}{{else}}{{else}}{{end}}", "{{else}} stands twice"),
        ("{{if .a}}{{else range}}{{end}}", "behind else stands if or with, not range"),
        ("{{end}}", "belongs to nothing"),
        ("{{else}}", "belongs to nothing"),
        ("{{break}}", "within a range"),
        ("{{template \"x\"}}", "there is no template \"x\""),
        ("{{template x}}", "behind template stands a name in quotes"),
        ("{{define \"x\"}}", "{{define}} is not closed by {{end}}"),
        ("{{define \"x\"}}{{else}}{{end}}", "belongs to nothing"),
        ("{{define \"x\" .}}{{end}}", "stands nothing, not ."),
        ("{{define \"x\"}}{{end}}{{define \"x\"}}{{end}}", "\"x\" is defined twice"),
        ("{{if .a}}{{define \"x\"}}{{end}}{{end}}", "at the outermost level"),
        ("{{block \"x\"}}{{end}}", "what its point is"),
        ("{{$a := 1}}{{define \"x\"}}{{$a}}{{end}}", "there is no variable $a"),
        ("{{range .a}}{{block \"x\" .}}{{break}}{{end}}{{end}}", "within a range"),
        ("{{}}", "says nothing"),
        ("{{frob .a}}", "frob is no function, and fields begin with a point: .frob; functions are and"),
        ("{{spilt .a}}", "did you mean split?"),
        ("{{digest}}", "digest is no function"),
        ("{{len digest}}", "digest is neither a field (.digest)"),
        ("{{\"open}}", "no closing quote"),
        ("{{join .tags}}", "join takes 2 operands, not 1"),
        ("{{.tags | }}", "missing behind range, if, with, ( or |"),
        ("{{.tags | .digest}}", ".digest is no function"),
        ("{{.tags .digest}}", ".tags is no function"),
        ("{{.tags | len .digest}}", "len takes 1 operands, not 2"),
        ("{{$x}}", "there is no variable $x here; {{$x := …}} makes one"),
        ("{{$x = 1}}", "there is no variable $x"),
        ("{{if $x := 1}}{{end}}{{$x}}", "there is no variable $x"),
        ("{{$a, $b := .tags}}", "stands one variable"),
        ("{{range $a, $b, $c := .tags}}{{end}}", "$item, or $position, $item"),
        ("{{.a := 1}}", ".a is no variable"),
        ("{{(len .a}}", "( is not closed by )"),
        ("{{len .a)}}", ") is too much"),
        ("{{12a}}", "12a is no number"),
        ("{{'x'}}", "what is '\\''?"),
        ("{{/* open}}", "a comment is not closed"),
    ] {
        let said = Template::parse(template).unwrap_err();
        assert!(said.contains(expected), "{template}: {said}");
    }
    for (template, expected) in [
        ("{{.digset}}", "did you mean .digest?"),
        ("{{.zzz}}", "there are .annotations, .digest"),
        ("{{.digest.x}}", ".x is asked of a text, which has no fields"),
        ("{{range .digest}}{{end}}", "range goes over lists, maps and numbers, not over a text"),
        ("{{index .tags 9}}", "index 9 is outside of the list, which has 2 items"),
        ("{{slice .digest 9 10}}", "slice from 9 to 10 is outside"),
        ("{{len .file_count}}", "len does not fit a number"),
        ("{{lt .digest 1}}", "a text and a number have no order"),
        ("{{printf \"%d\" .digest}}", "%d is for numbers"),
        ("{{printf \"%s\"}}", "nothing is given for %s"),
        ("{{printf \"x\" .digest}}", "nothing in the text is for it"),
        ("{{printf \"%z\" .digest}}", "%z is not known"),
        ("{{printf \"%\"}}", "% ends the text"),
        ("{{printf \"%99999999d\" .file_count}}", "a width of more than 1000"),
        ("{{pad \"x\" 999999999999 0}}", "pad: more than 1000 blanks"),
        ("{{range 1000001}}{{end}}", "range over more than 1000000"),
        ("{{define \"x\"}}{{template \"x\" .}}{{end}}{{template \"x\" .}}", "more than 20: \"x\" is the last"),
    ] {
        let said = Template::parse(template).unwrap().render(&document()).unwrap_err();
        assert!(said.contains(expected), "{template}: {said}");
    }
    assert!(Template::parse(&"{{if .a}}".repeat(100)).is_err());
    assert!(Template::parse(&("{{".to_owned() + &"(".repeat(100_000))).is_err());
    // A chain is no nest.
    assert!(Template::parse(&("{{if .a}}".to_owned() + &"{{else if .a}}".repeat(1000) + "{{end}}")).is_ok());
    let long = format!("{{{{printf \"{} .x}}}}", "y".repeat(120_000));
    assert!(Template::parse(&long).unwrap_err().len() < 400);
}

#[test]
fn a_trial_goes_through_all_branches() {
    let sample = Sample::of(&[SCHEMA]).unwrap();
    for (template, expected) in [
        ("{{.digest}} {{.FileCount}} {{.resolved_ref}}", Ok(())),
        ("{{range .entries}}{{.path}} {{$.digest}}{{else}}{{.digest}}{{end}}", Ok(())),
        (
            "{{index .entries 7}} {{(index .entries 7).path}} {{slice .digest 7 19}} {{index .annotations \"a.b\"}}",
            Ok(()),
        ),
        ("{{index (split .digest \":\") 1}}", Ok(())),
        ("{{range .entries}}{{.within.within.size}}{{end}}", Ok(())),
        (
            "{{define \"t\"}}{{.path}}{{with .within}}{{template \"t\" .}}{{end}}{{end}}{{range .entries}}{{template \"t\" .}}{{end}}",
            Ok(()),
        ),
        (
            "{{define \"t\"}}{{.nope}}{{end}}{{range .entries}}{{template \"t\" .}}{{end}}",
            Err("there is no field .nope"),
        ),
        ("{{define \"never\"}}{{.nope}}{{end}}{{.digest}}", Ok(())),
        ("{{range .value}}{{.anything | printf \"%d\"}}{{end}}{{join .value \",\"}}{{index .value 2 \"x\"}}", Ok(())),
        ("{{range $name, $value := .annotations}}{{$value}}{{end}}{{.annotations.any}}", Ok(())),
        ("{{.digset}}", Err("there is no field .digset; did you mean .digest?")),
        (
            "{{range .entries}}{{$.nope}}{{end}}",
            Err("there is no field .nope; there are .annotations, .digest, .entries"),
        ),
        ("{{range .entries}}{{.nope}}{{end}}", Err("there is no field .nope; there are .path, .size")),
        ("{{if .x}}{{end}}", Err("there is no field .x")),
        ("{{if .digest}}{{else}}{{.digest.x}}{{end}}", Err(".x is asked of a text")),
        ("{{if .file_count}}{{break}}{{end}}", Err("")),
        ("{{and false .nope}}", Err("no field .nope")),
        ("{{printf \"%d\" .digest}}", Err("%d is for numbers, not a text")),
        ("{{range .digest}}{{end}}", Err("range goes over lists")),
        ("{{index .digest 5}}", Err("index does not fit a text and a number")),
        ("{{.annotations.any.deeper}}", Err("which has no fields")),
    ] {
        let tried = Template::parse(template).and_then(|mut template| template.check(&sample));
        match (tried, expected) {
            (Ok(()), Ok(())) => {}
            (Err(said), Err(expected)) => assert!(said.contains(expected), "{template}: {said}"),
            (tried, _) => panic!("{template}: {tried:?}"),
        }
    }
    assert!(Sample::of(&[r#"{"properties": {}, "additionalProperties": true}"#]).is_none());
}

#[test]
fn what_is_left_out_is_nothing() {
    let mut template = Template::parse("{{.digest}}{{.resolved_ref}}{{range .entries}}{{.size}}{{end}}").unwrap();
    template.check(&Sample::of(&[SCHEMA]).unwrap()).unwrap();
    assert_eq!(
        template.render(&serde_json::json!({"digest": "sha256:1", "entries": [{"path": "x"}]})).unwrap(),
        "sha256:1\n"
    );
}

#[test]
fn tables_have_headings_and_rows() {
    let sample = Sample::of(&[SCHEMA]).unwrap();
    let table = |text: &str| {
        let mut template = Template::parse(text).unwrap();
        template.check(&sample).map(|()| template.render(&document()).unwrap())
    };
    let expected = "PATH    SIZE\nx       10\nlong y  9\n";
    assert_eq!(table("table {{.path}}\\t{{.size}}").unwrap(), expected);
    assert_eq!(table("table {{range .entries}}{{.path}}\\t{{.size}}\\n{{end}}").unwrap(), expected);
    assert_eq!(table("table {{.digest}}\\t{{.FileCount}}").unwrap(), "DIGEST    FILE COUNT\nsha256:1  2\n");
    let named = table("table {{printf \"%q\" .path}}:{{$.digest}}\\t{{if .size}}{{.size}}{{end}}").unwrap();
    assert!(named.starts_with("PATH:DIGEST        SIZE\n\"x\":sha256:1"), "{named}");
    assert!(table("table {{.pth}}").unwrap_err().contains("did you mean .path?"));
}

#[test]
fn templates_within_each_other_are_bounded() {
    let define = |number: u32| {
        let call = format!("{{{{template \"{}\" .}}}}", number + 1);
        format!("{{{{define \"{number}\"}}}}{}{{{{end}}}}", call.repeat(3))
    };
    let text = (0..19).map(define).collect::<String>() + "{{define \"19\"}}{{end}}{{template \"0\" .}}";
    let template = Template::parse(&text).unwrap();
    assert!(template.clone().check(&Sample::of(&[SCHEMA]).unwrap()).is_ok());
    assert!(template.render(&document()).unwrap_err().contains("more than 1000000 templates"));
}

#[test]
fn ranges_within_ranges_come_to_an_end() {
    let template = Template::parse("{{range 100000}}{{range 100000}}{{end}}{{end}}").unwrap();
    let refused = template.render(&document()).unwrap_err();
    assert!(refused.contains("more than 50000000 rounds"), "{refused}");
}
