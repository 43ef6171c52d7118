//! A comma right behind a tag, as in `[!x, a]`. The parser panics there. libyaml ends the tag before the comma and go-yaml behind
//! it, so the text has two meanings, and it is refused.
//!
//! Only the scanner knows what a tag is: the same letters stand in quoted texts and in comments. So it reads the text once
//! more, with a blank before every comma that may be such a one. There the panic cannot happen, and nothing else in the text
//! changes its place or its kind; or the scanner stops, and then the text is malformed.

use std::io::BufReader;

use libyaml_safer::{Scanner, TokenData};

use super::read::{DEEPEST, ReadError, Why};
use super::yaml::{place, position, syntax};

/// Refuses a text at whose tags the parser would panic.
pub(super) fn without_commas(text: &str) -> Result<(), ReadError> {
    if !text.contains('!') {
        return Ok(());
    }
    let commas: Vec<usize> =
        text.match_indices(',').map(|(at, _)| at).filter(|at| may_end_a_tag(text, *at)).collect();
    if commas.is_empty() {
        return Ok(());
    }
    let mut apart = String::with_capacity(text.len() + commas.len());
    let mut from = 0;
    for comma in &commas {
        apart.push_str(text.get(from..*comma).unwrap_or_default());
        apart.push(' ');
        from = *comma;
    }
    apart.push_str(text.get(from..).unwrap_or_default());

    // Where the blanks are, as places in the new text: each is one further to the right by those before it.
    let blanks: Vec<usize> = commas.iter().enumerate().map(|(nth, comma)| comma + nth).collect();
    let mut tokens = Scanner::new();
    tokens.set_input(BufReader::new(apart.as_bytes()));
    let mut open = 0_usize;
    for token in tokens {
        let token = token.map_err(|error| syntax(&error))?;
        match token.data {
            TokenData::Tag { .. } => {
                let end = usize::try_from(token.end_mark.index).unwrap_or(usize::MAX);
                if let Ok(nth) = blanks.binary_search(&end) {
                    let at = commas
                        .get(nth)
                        .map_or_else(|| position(token.start_mark), |comma| place(text, *comma));
                    return Err(ReadError { at, why: Why::Comma });
                }
            }
            // What is kept of each level would grow with the text: the parser stops there, the scanner does not.
            TokenData::BlockSequenceStart
            | TokenData::BlockMappingStart
            | TokenData::FlowSequenceStart
            | TokenData::FlowMappingStart => {
                open += 1;
                if open > DEEPEST + 1 {
                    return Err(ReadError { at: position(token.start_mark), why: Why::Deep });
                }
            }
            TokenData::BlockEnd | TokenData::FlowSequenceEnd | TokenData::FlowMappingEnd => {
                open = open.saturating_sub(1);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether the comma at this place may be right behind a tag: one in `<…>`, or one of the letters that tags have.
fn may_end_a_tag(text: &str, comma: usize) -> bool {
    let before = text.get(..comma).unwrap_or_default();
    let of_tag = |c: &char| c.is_ascii_alphanumeric() || "_-;/?:@&=+$.%!~*'()".contains(*c);
    before.ends_with('>') || before.chars().rev().take_while(of_tag).any(|c| c == '!')
}
