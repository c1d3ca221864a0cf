//! The JSON schema of the config, for editors.

use super::describe::{Form, Key, Section, Text};
use super::keys::ROOT;
use serde_json::{Map, Value, json};

/// The schema of the whole file.
pub fn schema() -> Value {
    let mut schema = section(&ROOT);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("keepstone.toml");
    schema
}

fn section(section: &'static Section) -> Value {
    let properties: Map<String, Value> = section.keys.iter().map(|key| (key.name.to_owned(), of_key(key))).collect();
    json!({
        "type": "object",
        "description": section.doc,
        "properties": properties,
        "additionalProperties": false,
    })
}

/// What has to be there is not said: it may be inherited, or stand in another file.
fn of_key(key: &'static Key) -> Value {
    let mut value = of_form(&key.form);
    value["description"] = json!(key.doc);
    if !key.default.is_empty() {
        value["default"] = default(&key.form, key.default);
    }
    value
}

fn default(form: &Form, text: &str) -> Value {
    let parsed = serde_json::from_str(text).ok();
    match form {
        Form::Switch | Form::Count { .. } => parsed.unwrap_or_else(|| json!(text)),
        _ => json!(text),
    }
}

/// The types of JSON in which a text may be written.
fn types(text: &Text) -> Value {
    match (text.number, text.fraction) {
        (_, true) => json!(["string", "number"]),
        (true, _) => json!(["string", "integer"]),
        _ => json!("string"),
    }
}

fn of_form(form: &Form) -> Value {
    match form {
        Form::Text(text) => {
            let mut value = json!({ "type": types(text) });
            if !text.pattern.is_empty() {
                value["pattern"] = json!(text.pattern);
            }
            value
        }
        Form::Count { least, most: u64::MAX } => json!({ "type": "integer", "minimum": least }),
        Form::Count { least, most } => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Form::Switch => json!({ "type": "boolean" }),
        Form::Word(words) => json!({ "enum": words }),
        Form::List(of) => json!({ "anyOf": [of_form(of), { "type": "array", "items": of_form(of) }] }),
        Form::Part(below) | Form::Optional(below) => section(below),
        Form::Named(below) => json!({ "type": "object", "additionalProperties": section(below) }),
    }
}
