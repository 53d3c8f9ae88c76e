//! `book_table`: knows the day and the number of people, and asks the user for the rest by form.

use chrono::{Days, NaiveDate};
use portico_ids::Rng;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Action, Answer, Outcome, Question, ToolResult};
use crate::App;
use crate::bookings::Booking;
use crate::resources;

pub(super) const NAME: &str = "book_table";
const TIMES: [&str; 4] = ["18:00", "19:00", "20:00", "21:00"];
const MAX_PEOPLE: u8 = 12;
const MAX_NAME: usize = 60;
/// How far ahead a table can be booked.
const MAX_DAYS: Days = Days::new(90);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arguments {
    day: String,
    people: u8,
}

/// What the form asks for.
#[derive(Debug, Deserialize)]
struct Form {
    name: String,
    time: String,
    #[serde(default)]
    window_seat: bool,
}

pub(super) fn definition() -> Value {
    json!({
        "name": NAME,
        "title": "Book a table",
        "description": "Books a table at the demo restaurant. It asks the user for the time and the name by a form.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "day": { "type": "string", "format": "date", "description": "Such as 2026-11-20; at most 90 days ahead" },
                "people": { "type": "integer", "minimum": 1, "maximum": MAX_PEOPLE },
            },
            "required": ["day", "people"],
            "additionalProperties": false,
        },
        "outputSchema": {
            "type": "object",
            "properties": {
                "status": { "type": "string", "enum": ["booked", "declined", "cancelled"] },
                "reference": { "type": "string" },
                "time": { "type": "string" },
            },
            "required": ["status"],
        },
        "annotations": {
            "readOnlyHint": false, "destructiveHint": false, "idempotentHint": false, "openWorldHint": false,
        },
    })
}

pub(super) fn run(app: &App, arguments: &Arguments, answer: Option<&Answer>) -> Result<Outcome, String> {
    if !(1..=MAX_PEOPLE).contains(&arguments.people) {
        return Err(format!("people must be between 1 and {MAX_PEOPLE}"));
    }
    let day: NaiveDate = arguments
        .day
        .parse()
        .map_err(|_| format!("{:?} is no day; write it like 2026-11-20", arguments.day))?;
    let today = app.clock.now().date_naive();
    if day < today || today.checked_add_days(MAX_DAYS).is_some_and(|last| day > last) {
        return Err(format!("{day} is not within the next 90 days; today is {today}"));
    }
    let Some(answer) = answer else { return Ok(Outcome::Ask(question(&*app.rng, day, arguments.people))) };
    let result = match answer.reply.action {
        Action::Accept => book(app, arguments.people, day, answer)?,
        Action::Decline => {
            ToolResult::ok("No table was booked: the user declined.", json!({ "status": "declined" }))
        }
        Action::Cancel => {
            ToolResult::ok("No table was booked: the user closed the form.", json!({ "status": "cancelled" }))
        }
    };
    Ok(Outcome::Done(result))
}

fn question(rng: &dyn Rng, day: NaiveDate, people: u8) -> Question {
    let mut reference = [0; 4];
    rng.fill(&mut reference);
    Question {
        message: format!("A table for {people} on {day}: when, and in whose name?"),
        schema: json!({
            "type": "object",
            "properties": {
                "name": { "type": "string", "title": "Name", "minLength": 1, "maxLength": MAX_NAME },
                "time": { "type": "string", "title": "Time", "enum": TIMES },
                "window_seat": { "type": "boolean", "title": "A table at the window", "default": false },
            },
            "required": ["name", "time"],
        }),
        reference: format!("{:08x}", u32::from_be_bytes(reference)),
    }
}

fn book(app: &App, people: u8, day: NaiveDate, answer: &Answer) -> Result<ToolResult, String> {
    let form = Form::deserialize(&answer.reply.content)
        .map_err(|e| format!("The form is not filled in rightly: {e}"))?;
    let name = form.name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME {
        return Err(format!(
            "The form is not filled in rightly: the name must have 1 to {MAX_NAME} characters"
        ));
    }
    if !TIMES.contains(&&*form.time) {
        return Err(format!(
            "The form is not filled in rightly: the time must be one of {}",
            TIMES.join(", ")
        ));
    }
    let booking = Booking {
        reference: answer.reference.clone(),
        day: day.to_string(),
        time: form.time.clone(),
        people,
        window_seat: form.window_seat,
    };
    // The same answer may arrive twice; it is the same booking then.
    if app.bookings.add(booking) {
        app.sessions.tell_changed(resources::BOOKINGS);
    }
    let place = if form.window_seat { " at the window" } else { "" };
    Ok(ToolResult::ok(
        format!(
            "Booked a table{place} for {people} on {day} at {} for {name}, reference {}.",
            form.time, answer.reference
        ),
        json!({ "status": "booked", "reference": answer.reference, "time": form.time }),
    ))
}
