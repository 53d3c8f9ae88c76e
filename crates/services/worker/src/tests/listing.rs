//! What is kept of a page, and when a listing ends.

use portico_mcp_types::Object;

use crate::mcp::listing::{Listing, TOOLS};

fn take(listing: &mut Listing, page: &str) -> Result<Option<String>, String> {
    let page = Object::parse(page, "a page").unwrap();
    listing.take(&page, TOOLS).map_err(|error| error.to_string())
}

#[test]
fn what_the_registry_would_refuse_is_left_out_and_counted() {
    let mut listing = Listing::default();
    let (long, large) = ("n".repeat(2049), "d".repeat(257 * 1024));
    let page = format!(
        r#"{{"tools":[{{"name":"good"}},{{"name":""}},{{"title":"none"}},7,{{"name":"nul\u0000"}},
            {{"name":"twice","name":"twice"}},{{"name":"{long}"}},{{"name":"l","description":"{large}"}}]}}"#
    );
    assert_eq!(take(&mut listing, &page), Ok(None));
    let names: Vec<&str> = listing.capabilities.iter().map(|found| found.name.as_str()).collect();
    assert_eq!((names, listing.left_out), (vec!["good"], 7));
    assert!(listing.trouble().unwrap().starts_with("7 of the things that it lists are left out"));
    assert_eq!(Listing::default().trouble(), None);
}

#[test]
fn what_people_read_is_sent_as_far_as_the_registry_keeps_it() {
    let mut listing = Listing::default();
    let (title, description) = ("t".repeat(600), "\u{e9}".repeat(3000));
    let page = format!(r#"{{"tools":[{{"name":"a","title":"{title}","description":"{description}"}}]}}"#);
    take(&mut listing, &page).unwrap();
    let sent = &listing.capabilities[0];
    assert_eq!((sent.title.len(), sent.description.len()), (512, 4096));
    assert!(sent.definition_json.contains(&title) && sent.definition_json.contains(&description));
}

#[test]
fn pages_that_break_the_protocol_are_errors() {
    for page in [r"{}", r#"{"tools":{}}"#, r#"{"tools":[],"nextCursor":3}"#] {
        assert!(take(&mut Listing::default(), page).is_err(), "{page}");
    }
    assert_eq!(take(&mut Listing::default(), r#"{"tools":[],"nextCursor":null}"#), Ok(None));
    assert_eq!(take(&mut Listing::default(), r#"{"tools":[],"nextCursor":""}"#), Ok(Some(String::new())));
}

#[test]
fn a_listing_is_bounded_in_number_and_size() {
    let many = vec![r#"{"name":"a"}"#; 10_001].join(",");
    let error = take(&mut Listing::default(), &format!(r#"{{"tools":[{many}]}}"#)).unwrap_err();
    assert!(error.contains("10000"), "{error}");
    let large = format!(r#"{{"name":"a","description":"{}"}}"#, "d".repeat(250 * 1024));
    let page = format!(r#"{{"tools":[{}]}}"#, vec![large; 20].join(","));
    let mut listing = Listing::default();
    let error = (0..6).find_map(|_| take(&mut listing, &page).err()).unwrap();
    assert!(error.contains("24 MiB"), "{error}");
}

#[test]
fn the_digest_tells_listings_apart() {
    let digest = |page| {
        let mut listing = Listing::default();
        take(&mut listing, page).unwrap();
        listing.digest()
    };
    let one = digest(r#"{"tools":[{"name":"a"}]}"#);
    assert_eq!(one, digest(r#"{"x":1,"tools":[{"name":"a"}]}"#));
    assert_ne!(one, digest(r#"{"tools":[{"name":"a","title":"b"}]}"#));
}
