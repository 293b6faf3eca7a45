//! Whether what a template asks for is in the documents of a command: found out before the command does anything.

use serde_json::{Map, Value};

use super::{Call, Node, Operand, Template, plain};
use crate::ui::near::nearest;

impl Template {
    /// Looks for the outermost fields among the `members` that documents may have.
    ///
    /// # Errors
    /// What is asked for and is in none of them.
    pub(crate) fn check(&self, members: &[String]) -> Result<(), String> {
        let mut fields = Vec::new();
        gather(&self.0, true, &mut fields);
        let there = |field: &str| members.iter().any(|member| plain(member) == plain(field));
        fields.iter().find(|field| !there(field)).map_or(Ok(()), |field| Err(no_field(field, members)))
    }
}

/// There is no such field, which one may be meant.
pub(super) fn no_field(field: &str, members: &[String]) -> String {
    match nearest(field, members.iter().map(String::as_str)) {
        Some(near) => format!("there is no field .{field}; did you mean .{near}?"),
        None => format!("there is no field .{field}; there are .{}", members.join(", .")),
    }
}

/// `document` with nothing for those of `members` that it leaves out.
pub(crate) fn filled(document: &mut Map<String, Value>, members: &[String]) {
    for member in members {
        document.entry(member).or_insert(Value::Null);
    }
}

/// The fields of the whole document that `nodes` ask for; `outside` of lists, a field is one of it.
fn gather<'a>(nodes: &'a [Node], outside: bool, fields: &mut Vec<&'a str>) {
    for node in nodes {
        match node {
            Node::Text(_) => {}
            Node::Show(pipe) => gather_calls(pipe, outside, fields),
            Node::If(pipe, body, otherwise) => {
                gather_calls(pipe, outside, fields);
                gather(body, outside, fields);
                gather(otherwise, outside, fields);
            }
            Node::Range(pipe, body, otherwise) => {
                gather_calls(pipe, outside, fields);
                gather(body, false, fields);
                gather(otherwise, outside, fields);
            }
        }
    }
}

fn gather_calls<'a>(pipe: &'a [Call], outside: bool, fields: &mut Vec<&'a str>) {
    for operand in pipe.iter().flat_map(|call| &call.operands) {
        if let Operand::Path { whole, fields: path } = operand
            && (*whole || outside)
        {
            fields.extend(path.first().map(String::as_str));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn outermost_fields_are_checked() {
        let members = ["digest", "file_count", "entries"].map(str::to_owned);
        for (template, expected) in [
            ("{{.digest}} {{.FileCount}}", Ok(())),
            ("{{range .entries}}{{.path}} {{$.digest}}{{else}}{{.digest}}{{end}}", Ok(())),
            ("{{.digset}}", Err("there is no field .digset; did you mean .digest?")),
            (
                "{{range .entries}}{{$.nope}}{{end}}",
                Err("there is no field .nope; there are .digest, .file_count, .entries"),
            ),
            ("{{if .x}}{{end}}", Err("there is no field .x; there are .digest, .file_count, .entries")),
        ] {
            let checked = Template::parse(template).unwrap().check(&members);
            assert_eq!(checked, expected.map_err(str::to_owned), "{template}");
        }
    }

    #[test]
    fn what_is_left_out_is_nothing() {
        let mut document = Map::new();
        document.insert("digest".into(), "sha256:1".into());
        filled(&mut document, &["digest".into(), "resolved_ref".into()]);
        let shown = Template::parse("{{.digest}}{{.resolved_ref}}").unwrap().render(&document.into());
        assert_eq!(shown.unwrap(), "sha256:1\n");
    }
}
