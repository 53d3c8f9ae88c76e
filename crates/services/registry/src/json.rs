//! `google.protobuf.Struct` and JSON values, there and back.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value as ProtoValue};
use serde_json::{Map, Number, Value};

/// Deepest nesting that is followed; a document has two levels.
const DEPTH: usize = 32;

/// Turns a Struct into a JSON object; `None` if it is nested too deeply or holds a number that JSON has no word for.
pub(crate) fn from_struct(value: Struct) -> Option<Value> {
    object(value, DEPTH)
}

fn object(value: Struct, depth: usize) -> Option<Value> {
    let members: Option<Map<String, Value>> = value
        .fields
        .into_iter()
        .map(|(key, value)| Some((key, json(value, depth.checked_sub(1)?)?)))
        .collect();
    members.map(Value::Object)
}

fn json(value: ProtoValue, depth: usize) -> Option<Value> {
    Some(match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::NumberValue(number)) => number_of(number)?,
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::BoolValue(flag)) => Value::Bool(flag),
        Some(Kind::StructValue(members)) => object(members, depth)?,
        Some(Kind::ListValue(list)) => {
            let items: Option<Vec<Value>> =
                list.values.into_iter().map(|item| json(item, depth.checked_sub(1)?)).collect();
            Value::Array(items?)
        }
    })
}

/// A Struct has doubles only; a whole one is written as an integer, so that 30 comes back as 30 and not as 30.0.
fn number_of(number: f64) -> Option<Value> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() < EXACT {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole and below 2^53, so the conversion is exact"
        )]
        return Some(Value::Number(Number::from(number as i64)));
    }
    Number::from_f64(number).map(Value::Number)
}

/// Turns a JSON object into a Struct; anything but an object becomes an empty one.
pub(crate) fn to_struct(value: &Value) -> Struct {
    let fields = value
        .as_object()
        .map(|members| members.iter().map(|(key, value)| (key.clone(), to_proto(value))).collect());
    Struct { fields: fields.unwrap_or_default() }
}

fn to_proto(value: &Value) -> ProtoValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue { values: items.iter().map(to_proto).collect() }),
        Value::Object(_) => Kind::StructValue(to_struct(value)),
    };
    ProtoValue { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_survives_the_way_through_struct() {
        let document = json!({"a": [1, 2.5, -3, true, null, {"b": "c"}], "big": 1e300, "d": {}});
        assert_eq!(from_struct(to_struct(&document)), Some(document));
    }

    #[test]
    fn deep_nesting_and_what_json_cannot_say_are_refused() {
        let mut deep = json!({});
        for _ in 0..40 {
            deep = json!({ "a": deep });
        }
        assert_eq!(from_struct(to_struct(&deep)), None);
        let nan = ProtoValue { kind: Some(Kind::NumberValue(f64::NAN)) };
        assert_eq!(from_struct(Struct { fields: [("a".to_owned(), nan)].into() }), None);
    }
}
