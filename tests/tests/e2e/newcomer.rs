//! The newcomer's path: what `portico dev` prints works as printed.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use acceptance::deployment::{Deployment, Exit, Home, Plan};
use acceptance::oauth::{Ending, Person};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn s0_25_s1_25_the_demo_tool_is_callable_by_the_printed_command() {
    let deployment = Plan::new().child().start().await;
    let printed = deployment.child().output();
    assert!(printed.contains("call demo"), "{printed}");
    for client in ["Claude Code", "VS Code", "Cursor", "nspector"] {
        assert!(printed.contains(client), "{client} is not in:\n{printed}");
    }
    let list = deployment.cli(&["call", "demo"]).await;
    assert_eq!(list.code, Some(0), "{}", list.output);
    let tools: Vec<&str> = list.output.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(tools.len() >= 5, "{}", list.output);
    // The first printed call works word for word.
    let line = printed.lines().find(|line| line.contains(" call demo ")).expect("a printed call");
    let words: Vec<&str> = line[line.find("call demo").unwrap()..].split_whitespace().collect();
    let words: Vec<String> =
        words.iter().map(|word| word.trim_matches('\'').trim_matches('"').to_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let called = deployment.cli(&words).await;
    assert_eq!(called.code, Some(0), "{words:?}: {}", called.output);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_it_without_a_warning_about_its_own_parts() {
    let deployment = Plan::new().child().start().await;
    deployment.child().signal("INT");
    let exit = deployment.child().exit().await;
    assert_eq!(exit.code, Some(0), "{}", exit.output);
    assert!(!exit.output.contains("the feed was interrupted"), "{}", exit.output);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_start_answers_soon_and_has_the_same_identities() {
    let deployment = Plan::new().child().start().await;
    let before = deployment.ready.clone();
    let plan = deployment.stop().await;
    let begin = Instant::now();
    let deployment = plan.start().await;
    let took = begin.elapsed().saturating_sub(deployment.child().kept_waiting());
    assert!(took < Duration::from_secs(2), "{took:?} without what it waited for processors");
    assert_eq!(deployment.ready.client_id, before.client_id);
    assert_eq!(deployment.ready.admin_password, before.admin_password);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_with_the_command_line_and_works_with_it() {
    let deployment = Deployment::start().await;
    let home = Home::default();
    let mut admin = Person::administrator(&deployment).await;
    let http = deployment.http.clone();
    let login = home.login(&deployment.ready.origin, async |address: String| {
        let Ending::Callback(url) = admin.follow(&address, "allow").await else { panic!("no callback") };
        assert!(http.get(url.as_str()).await.status.is_success());
    });
    let login = login.await;
    assert_eq!(login.code, Some(0), "{}", login.output);
    assert!(login.output.contains("signed in"), "{}", login.output);
    assert_eq!(std::fs::metadata(home.login_file()).unwrap().permissions().mode() & 0o777, 0o600);
    for arguments in [&["server", "list"][..], &["call", "demo", "time_now"], &["audit", "tail"]] {
        let done = home.run(arguments).await;
        assert_eq!(done.code, Some(0), "{arguments:?}: {}", done.output);
    }
    assert_eq!(home.run(&["logout"]).await.code, Some(0));
    let after = home.run(&["server", "list"]).await;
    assert_eq!(after.code, Some(1));
    assert!(after.output.contains("portico login"), "{}", after.output);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_has_a_refresh_token_of_its_own_and_commands_at_the_same_time_share_one_sign_in() {
    let deployment = Deployment::start().await;
    let home = Home::default();
    let mut admin = Person::administrator(&deployment).await;
    let http = deployment.http.clone();
    let mut allow = async |address: String| {
        let Ending::Callback(url) = admin.follow(&address, "allow").await else { panic!("no callback") };
        assert!(http.get(url.as_str()).await.status.is_success());
    };
    assert_eq!(home.login(&deployment.ready.origin, &mut allow).await.code, Some(0));
    let offline = ["--json", "token", "--offline", "--no-browser", "--endpoint", "demo"];
    let offline = home.sign_in(&offline, &mut allow).await;
    assert_eq!(offline.code, Some(0), "{}", offline.output);
    let mut documents = serde_json::Deserializer::from_str(&offline.output).into_iter::<Value>();
    let job = documents.next().unwrap().unwrap();

    // All of them renew the same sign-in; none may take another one for a thief.
    let command = || home.run(&["server", "list"]);
    let done = tokio::join!(command(), command(), command(), command(), command(), command());
    for done in <[Exit; 6]>::from(done) {
        assert_eq!(done.code, Some(0), "{}", done.output);
    }
    let mut refresh_token = job["refresh_token"].clone();
    for _ in 0..2 {
        let text = |name: &str| job[name].as_str().unwrap();
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", text("client_id")),
            ("refresh_token", refresh_token.as_str().unwrap()),
            ("resource", text("resource")),
        ];
        let answer = deployment.http.form(text("token_endpoint"), &form).await;
        assert!(answer.status.is_success(), "{}", answer.text());
        refresh_token = answer.json()["refresh_token"].clone();
    }
    let after = home.run(&["call", "demo", "time_now"]).await;
    assert_eq!(after.code, Some(0), "{}", after.output);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_explains_mistakes() {
    let deployment = Deployment::start().await;
    let unknown_tool = deployment.cli(&["call", "demo", "no_such_tool"]).await;
    assert_eq!(unknown_tool.code, Some(1));
    assert!(unknown_tool.output.contains("no_such_tool") && unknown_tool.output.contains("there are"));
    let unknown_endpoint = deployment.cli(&["call", "nothing"]).await;
    assert_eq!(unknown_endpoint.code, Some(1));
    let nowhere = acceptance::deployment::command(&["--ready-file", "/nowhere", "server", "list"], "").await;
    assert_eq!(nowhere.code, Some(1));
    assert!(nowhere.output.contains("portico dev"), "{}", nowhere.output);
    let token = deployment.cli(&["--json", "token", "--endpoint", "demo"]).await;
    let token: Value = serde_json::from_str(&token.output).unwrap();
    assert_eq!(token["resource"], deployment.resource("demo"));
    deployment.stop().await;
}

#[tokio::test]
async fn an_answer_that_nobody_reads_to_its_end_is_no_failure() {
    let unread = acceptance::deployment::unread(&["config", "schema"]).await;
    assert_eq!((unread.code, unread.output.as_str()), (Some(0), ""));
}
