//! `unit_convert`: lengths, masses, volumes, speeds, temperatures and amounts of data.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{ToolResult, read_only};

pub(super) const NAME: &str = "unit_convert";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dimension {
    Length,
    Mass,
    Volume,
    Speed,
    Temperature,
    Data,
}

/// A unit: `value × factor + offset` is the value in the dimension's base unit.
struct Unit {
    name: &'static str,
    dimension: Dimension,
    factor: f64,
    offset: f64,
}

const fn unit(name: &'static str, dimension: Dimension, factor: f64) -> Unit {
    Unit { name, dimension, factor, offset: 0.0 }
}

/// Exact definitions: SI brochure, and the international yard and pound of 1959.
const UNITS: [Unit; 29] = [
    unit("mm", Dimension::Length, 0.001),
    unit("cm", Dimension::Length, 0.01),
    unit("m", Dimension::Length, 1.0),
    unit("km", Dimension::Length, 1000.0),
    unit("in", Dimension::Length, 0.0254),
    unit("ft", Dimension::Length, 0.3048),
    unit("yd", Dimension::Length, 0.9144),
    unit("mi", Dimension::Length, 1609.344),
    unit("nmi", Dimension::Length, 1852.0),
    unit("g", Dimension::Mass, 0.001),
    unit("kg", Dimension::Mass, 1.0),
    unit("t", Dimension::Mass, 1000.0),
    unit("oz", Dimension::Mass, 0.028_349_523_125),
    unit("lb", Dimension::Mass, 0.453_592_37),
    unit("ml", Dimension::Volume, 0.001),
    unit("l", Dimension::Volume, 1.0),
    unit("m3", Dimension::Volume, 1000.0),
    unit("us_gal", Dimension::Volume, 3.785_411_784),
    unit("imp_gal", Dimension::Volume, 4.546_09),
    unit("m/s", Dimension::Speed, 1.0),
    unit("km/h", Dimension::Speed, 1.0 / 3.6),
    unit("mph", Dimension::Speed, 0.447_04),
    unit("kn", Dimension::Speed, 1852.0 / 3600.0),
    unit("K", Dimension::Temperature, 1.0),
    Unit { name: "C", dimension: Dimension::Temperature, factor: 1.0, offset: 273.15 },
    Unit { name: "F", dimension: Dimension::Temperature, factor: 5.0 / 9.0, offset: 459.67 * 5.0 / 9.0 },
    unit("B", Dimension::Data, 1.0),
    unit("kB", Dimension::Data, 1000.0),
    unit("KiB", Dimension::Data, 1024.0),
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arguments {
    value: f64,
    from: String,
    to: String,
}

pub(super) fn definition() -> Value {
    let names: Vec<_> = UNITS.iter().map(|unit| unit.name).collect();
    json!({
        "name": NAME,
        "title": "Convert units",
        "description": "Converts a value between units of length, mass, volume, speed, temperature or data.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "value": { "type": "number" },
                "from": { "type": "string", "enum": names },
                "to": { "type": "string", "enum": names },
            },
            "required": ["value", "from", "to"],
            "additionalProperties": false,
        },
        "outputSchema": {
            "type": "object",
            "properties": { "value": { "type": "number" }, "unit": { "type": "string" } },
            "required": ["value", "unit"],
        },
        "annotations": read_only(),
    })
}

fn find(name: &str) -> Result<&'static Unit, String> {
    UNITS.iter().find(|unit| unit.name == name).ok_or_else(|| {
        let names: Vec<_> = UNITS.iter().map(|unit| unit.name).collect();
        format!("{name:?} is no unit known here; there are {}", names.join(", "))
    })
}

pub(super) fn convert(arguments: &Arguments) -> Result<ToolResult, String> {
    let (from, to) = (find(&arguments.from)?, find(&arguments.to)?);
    if from.dimension != to.dimension {
        return Err(format!("{} is a {:?}, {} a {:?}", from.name, from.dimension, to.name, to.dimension)
            .to_lowercase());
    }
    let exact = (arguments.value * from.factor + from.offset - to.offset) / to.factor;
    // Twelve digits: what binary fractions add behind them would only look wrong.
    let value: f64 = format!("{exact:.11e}").parse().unwrap_or(exact);
    if !value.is_finite() {
        return Err("The result is too large for a number.".to_owned());
    }
    let text = format!("{} {} = {value} {}", arguments.value, from.name, to.name);
    Ok(ToolResult::ok(text, json!({ "value": value, "unit": to.name })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(value: f64, from: &str, to: &str) -> Result<String, String> {
        convert(&Arguments { value, from: from.to_owned(), to: to.to_owned() }).map(|result| result.text)
    }

    #[test]
    fn values_are_converted_without_binary_noise() {
        for (value, from, to, text) in [
            (26.2, "mi", "km", "26.2 mi = 42.1648128 km"),
            (98.6, "F", "C", "98.6 F = 37 C"),
            (-40.0, "C", "F", "-40 C = -40 F"),
            (1.0, "lb", "g", "1 lb = 453.59237 g"),
            (0.0, "m", "ft", "0 m = 0 ft"),
        ] {
            assert_eq!(converted(value, from, to).unwrap(), text);
        }
    }

    #[test]
    fn what_cannot_be_converted_is_explained() {
        assert_eq!(converted(1.0, "kg", "m").unwrap_err(), "kg is a mass, m a length");
        assert!(converted(1.0, "furlong", "m").unwrap_err().contains("there are mm, cm"));
        assert!(converted(f64::MAX, "km", "mm").unwrap_err().contains("too large"));
    }
}
