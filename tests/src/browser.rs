//! A browser without a window: it keeps cookies, reads forms and presses buttons. It follows redirects only when told.

use std::collections::BTreeMap;

use ::http::header::{CONTENT_TYPE, COOKIE, HeaderValue, LOCATION, ORIGIN, SET_COOKIE};
use ::http::{HeaderMap, Method};
use bytes::Bytes;
use url::Url;

use crate::http::{Answer, Http, form};

#[derive(Debug, Clone)]
pub struct Browser {
    http: Http,
    origin: Url,
    cookies: BTreeMap<String, String>,
}

/// A page with a form.
#[derive(Debug, Clone)]
pub struct Page {
    pub url: String,
    pub answer: Answer,
    pub action: String,
    pub hidden: Vec<(String, String)>,
}

impl Page {
    fn read(url: String, answer: Answer) -> Self {
        let html = answer.text();
        let action = html
            .split("<form ")
            .nth(1)
            .and_then(|form| attribute(form.split('>').next()?, "action"))
            .unwrap_or_default();
        let hidden = html
            .split("<input ")
            .skip(1)
            .filter_map(|input| input.split('>').next())
            .filter(|input| attribute(input, "type").as_deref() == Some("hidden"))
            .filter_map(|input| Some((attribute(input, "name")?, attribute(input, "value")?)))
            .collect();
        Self { url, answer, action, hidden }
    }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!("{name}=\""))?;
    Some(rest.split('"').next()?.replace("&amp;", "&").replace("&#38;", "&").replace("&#34;", "\""))
}

impl Browser {
    #[must_use]
    pub fn new(http: Http, origin: &str) -> Self {
        Self { http, origin: Url::parse(origin).unwrap(), cookies: BTreeMap::new() }
    }

    #[must_use]
    pub fn cookies(&self) -> Vec<&str> {
        self.cookies.keys().map(String::as_str).collect()
    }

    /// Visits a URL, without following where it leads.
    pub async fn visit(&mut self, url: &str) -> Answer {
        let url = self.origin.join(url).unwrap();
        let answer = self.http.send(Method::GET, url.as_str(), &self.headers(), Bytes::new()).await;
        self.keep(&answer);
        answer
    }

    /// Visits a URL and follows redirects as long as they stay on this origin. The `Err` is an address elsewhere.
    pub async fn open(&mut self, url: &str) -> Result<Page, Url> {
        let mut url = self.origin.join(url).unwrap();
        loop {
            let answer = self.visit(url.as_str()).await;
            if !self.elsewhere(&mut url, &answer)? {
                return Ok(Page::read(url.to_string(), answer));
            }
        }
    }

    /// Fills in a form and sends it; redirects are followed as in [`Self::open`].
    pub async fn submit(&mut self, page: &Page, fields: &[(&str, &str)]) -> Result<Page, Url> {
        let hidden = page.hidden.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let all: Vec<_> = hidden.chain(fields.iter().copied()).collect();
        let mut url = self.origin.join(&page.action).unwrap();
        let answer = self.post(url.as_str(), &all).await;
        if self.elsewhere(&mut url, &answer)? {
            return Box::pin(self.open(url.as_str())).await;
        }
        Ok(Page::read(url.to_string(), answer))
    }

    /// Sends form fields as they are.
    pub async fn post(&mut self, url: &str, fields: &[(&str, &str)]) -> Answer {
        let mut headers = self.headers();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ORIGIN, HeaderValue::from_str(&self.origin.origin().ascii_serialization()).unwrap());
        let url = self.origin.join(url).unwrap();
        let answer = self.http.send(Method::POST, url.as_str(), &headers, form(fields)).await;
        self.keep(&answer);
        answer
    }

    /// Whether an answer leads on, and where to.
    fn elsewhere(&self, url: &mut Url, answer: &Answer) -> Result<bool, Url> {
        if !answer.status.is_redirection() {
            return Ok(false);
        }
        let location = answer.headers.get(LOCATION).and_then(|to| to.to_str().ok()).expect("a location");
        let target = url.join(location).unwrap();
        if target.origin() != self.origin.origin() {
            return Err(target);
        }
        *url = target;
        Ok(true)
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if !self.cookies.is_empty() {
            let pairs: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            headers.insert(COOKIE, HeaderValue::from_str(&pairs.join("; ")).unwrap());
        }
        headers
    }

    fn keep(&mut self, answer: &Answer) {
        for cookie in answer.headers.get_all(SET_COOKIE) {
            let text = cookie.to_str().unwrap();
            let (name, value) = text.split(';').next().and_then(|pair| pair.split_once('=')).unwrap();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}
