//! The body of a webhook, as its owner wants it: JSON in whose texts `{name}` stands for a value of the message.
//!
//! The template is read as JSON before anything is put into it, so nothing that a message holds can break out of its
//! text. A text that is nothing but one `{name}` becomes the value itself: a number stays a number, a list a list.
//! `{{` and `}}` are the braces themselves.

use super::message::{Message, NAMES};
use serde_json::Value;

/// A template that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Value);

/// A part of a text.
enum Part<'t> {
    Plain(String),
    Name(&'t str),
}

impl Template {
    /// Reads it; every name in it is one of [`NAMES`].
    pub fn parse(text: &str) -> Result<Template, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| format!("this is not JSON: {error}"))?;
        let mut wrong = None;
        each_text(&value, &mut |text| wrong = wrong.take().or_else(|| check(text).err()));
        wrong.map_or(Ok(Template(value)), Err)
    }

    /// The body for a message.
    pub fn fill(&self, message: &Message) -> Value {
        filled(&self.0, message)
    }
}

fn each_text(value: &Value, look: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => look(text),
        Value::Array(list) => list.iter().for_each(|one| each_text(one, look)),
        Value::Object(object) => object.values().for_each(|one| each_text(one, look)),
        _ => {}
    }
}

fn check(text: &str) -> Result<(), String> {
    for part in parts(text)? {
        match part {
            Part::Name(name) if !NAMES.contains(&name) => {
                return Err(format!("`{{{name}}}` stands for nothing; there is {}", NAMES.join(", ")));
            }
            _ => {}
        }
    }
    Ok(())
}

fn parts(text: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        plain.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            plain.push_str(brace);
            rest = after;
        } else if brace == "}" {
            return Err(format!(
                "a brace in `{text}` is closed that was not opened: write `}}}}` for the brace itself"
            ));
        } else {
            let end = rest
                .find('}')
                .ok_or_else(|| format!("a brace in `{text}` is not closed: write `{{{{` for the brace itself"))?;
            parts.push(Part::Plain(std::mem::take(&mut plain)));
            parts.push(Part::Name(&rest[..end]));
            rest = &rest[end + 1..];
        }
    }
    plain.push_str(rest);
    parts.push(Part::Plain(plain));
    Ok(parts)
}

fn filled(value: &Value, message: &Message) -> Value {
    match value {
        Value::String(text) => filled_text(text, message),
        Value::Array(list) => list.iter().map(|one| filled(one, message)).collect(),
        Value::Object(object) => {
            Value::Object(object.iter().map(|(name, one)| (name.clone(), filled(one, message))).collect())
        }
        other => other.clone(),
    }
}

fn filled_text(text: &str, message: &Message) -> Value {
    // It was checked when it was read.
    let parts = parts(text).unwrap_or_default();
    let value = |name: &str| message.value(name).unwrap_or(Value::Null);
    if let [Part::Plain(before), Part::Name(name), Part::Plain(after)] = parts.as_slice()
        && before.is_empty()
        && after.is_empty()
    {
        return value(name);
    }
    let written = |part: &Part<'_>| match part {
        Part::Plain(plain) => plain.clone(),
        Part::Name(name) => match value(name) {
            Value::String(text) => text,
            Value::Null => "-".to_owned(),
            other => other.to_string(),
        },
    };
    Value::String(parts.iter().map(written).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tests::bad_night;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_alone_is_its_value_and_within_a_text_it_is_text_that_breaks_nothing() {
        let template =
            r#"{"subject": "[{state}] {title} {{x}}", "size": "{added_bytes}", "n": 3, "all": [{"a": "{alerts}"}]}"#;
        let mut message = bad_night();
        message.title = "a \"quote\", a \\ and {next}".to_owned();
        let filled = Template::parse(template).unwrap().fill(&message);
        assert_eq!(filled["subject"], json!("[critical] a \"quote\", a \\ and {next} {x}"));
        assert_eq!((&filled["size"], &filled["n"]), (&json!(12_582_912), &json!(3)));
        assert_eq!(filled["all"][0]["a"].as_array().unwrap().len(), message.notices.len());
        let nothing = Template::parse(r#"{"a": "{upload_ms}", "b": "in {upload_ms}"}"#).unwrap();
        assert_eq!(nothing.fill(&super::super::tests::test_message()), json!({"a": null, "b": "in -"}));
    }

    #[test]
    fn a_template_that_is_not_json_or_names_what_there_is_not_is_refused() {
        for (wrong, why) in [
            ("{", "not JSON"),
            (r#""{titel}""#, "stands for nothing"),
            (r#""{title""#, "not closed"),
            (r#""a}""#, "not opened"),
        ] {
            let error = Template::parse(wrong).unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
