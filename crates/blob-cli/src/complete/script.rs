//! What shells read to know whom to ask. The scripts for bash and zsh are our own, since references hold colons: bash takes
//! those for the ends of words, and zsh for the ends of candidates.

use clap_complete::env::{EnvCompleter, Shells};

use super::VARIABLE;

/// The shells that are known.
pub(super) const SHELLS: [&str; 5] = ["bash", "zsh", "fish", "powershell", "elvish"];

/// Words are put together again as they were typed; what bash takes for a word of its own is cut off the answers.
const BASH: &str = r#"_blob_complete() {
    local line=${COMP_LINE:0:COMP_POINT} words=() word index answer
    for ((index = 0; index <= COMP_CWORD; index++)); do
        local apart=${line%%[![:space:]]*}
        line=${line#"$apart"}
        word=${COMP_WORDS[index]}
        ((index == COMP_CWORD)) && word=$line
        line=${line#"$word"}
        if ((${#words[@]} > 0)) && [[ -z $apart ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
    done
    local typed=${words[${#words[@]} - 1]} cut= mark
    for mark in : =; do
        if [[ $COMP_WORDBREAKS == *"$mark"* && $typed == *"$mark"* ]]; then
            local head=${typed%"$mark"*}$mark
            ((${#head} > ${#cut})) && cut=$head
        fi
    done
    COMPREPLY=()
    while IFS= read -r answer; do
        answer=${answer%%$'\t'*}
        [[ $answer == *[/:=] ]] && compopt -o nospace 2>/dev/null
        answer=${answer#"$cut"}
        [[ $answer == *[[:space:]\&\;\|\<\>\(\)\$\`\"\'\*\?]* ]] && printf -v answer %q "$answer"
        COMPREPLY+=("$answer")
    done < <(VARIABLE=fish PROGRAM -- "${words[@]}" 2>/dev/null)
}
complete -o default -o nosort -F _blob_complete blob 2>/dev/null || complete -o default -F _blob_complete blob
"#;

const ZSH: &str = r#"#compdef blob
_blob_complete() {
    local -a whole open
    local answer value help
    while IFS= read -r answer; do
        value=${answer%%$'\t'*}
        help=${answer#"$value"}
        value=${value//:/\\:}${help:+:${help#$'\t'}}
        if [[ ${answer%%$'\t'*} == *[/:=] ]]; then open+=("$value"); else whole+=("$value"); fi
    done < <(VARIABLE=fish PROGRAM -- "${(Q@)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)
    ((${#open})) && _describe -V value open -S ''
    ((${#whole})) && _describe -V value whole
    ((${#open} + ${#whole})) || _files
}
if [[ ${funcstack[1]} == _blob ]]; then _blob_complete "$@"; else compdef _blob_complete blob; fi
"#;

/// What a shell reads to know whom to ask; `program` is who is asked.
///
/// # Errors
/// The names of the shells that are known, if this is none of them.
pub(crate) fn registration(shell: &str, program: &str) -> Result<Vec<u8>, String> {
    let own = match shell {
        "bash" => BASH,
        "zsh" => ZSH,
        _ => return of_library(shell, program),
    };
    let script = own.replace("VARIABLE", VARIABLE).replace("PROGRAM", &quoted(program));
    Ok(script.into_bytes())
}

fn of_library(shell: &str, program: &str) -> Result<Vec<u8>, String> {
    let shells = Shells::builtins();
    let known: Option<&dyn EnvCompleter> = shells.completer(shell);
    let known = known.ok_or_else(|| shells.names().collect::<Vec<_>>().join(", "))?;
    let mut script = Vec::new();
    known.write_registration(VARIABLE, "blob", "blob", program, &mut script).map_err(|error| error.to_string())?;
    Ok(script)
}

/// One word for a shell.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+".contains(letter);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_one_word() {
        for (program, expected) in
            [("/opt/blob", "/opt/blob"), ("/my dir/blob", "'/my dir/blob'"), ("it's", r"'it'\''s'")]
        {
            assert_eq!(quoted(program), expected);
        }
    }
}
