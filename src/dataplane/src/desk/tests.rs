use super::*;

const MOST_BYTES: u64 = 100;

fn rule(bytes: usize) -> Question {
    Question::Rule { function: "rules:late".into(), timeout: Duration::from_millis(5), values: vec![0; bytes] }
}

fn people(backend: &str) -> Question {
    Question::People(Box::new(Task {
        backend: backend.into(),
        queue: "moderation".into(),
        route: "spam".into(),
        id: [1; 16],
        rows: vec![0],
        segment: "".into(),
        unit: 0,
        policy: 7,
        time_us: 0,
        until_us: 1,
        request: vec![0; 10],
    }))
}

fn told(pending: &mut Pending) -> Option<Reply> {
    match pending.poll(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(reply) => Some(reply),
        Poll::Pending => None,
    }
}

#[test]
fn a_reply_reaches_who_asked_and_nobody_else() {
    let desk = Arc::new(Desk::default());
    let mut first = desk.ask(rule(1), 8, MOST_BYTES).unwrap();
    let mut second = desk.ask(people("moderators"), 8, MOST_BYTES).unwrap();
    let (asked, withdrawn) = desk.questions(Duration::ZERO);
    assert_eq!(asked.iter().map(|(_, question)| question.clone()).collect::<Vec<_>>(), [rule(1), people("moderators")]);
    assert!(withdrawn.is_empty());
    assert!(desk.reply(asked[1].0, Reply::Labels(vec!["ham".into()])));
    assert_eq!(told(&mut first), None);
    assert_eq!(told(&mut second), Some(Reply::Labels(vec!["ham".into()])));
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_room_as_soon_as_another_ends() {
    let desk = Arc::new(Desk::default());
    let held = desk.ask(rule(60), 2, MOST_BYTES).unwrap();
    assert_eq!(desk.ask(rule(41), 2, MOST_BYTES).err(), Some(Refused::Bytes));
    let _small = desk.ask(rule(1), 2, MOST_BYTES).unwrap();
    assert_eq!(desk.ask(rule(1), 2, MOST_BYTES).err(), Some(Refused::Full));
    assert!(desk.ask(people("moderators"), 1, MOST_BYTES).is_ok(), "each group has a limit of its own");
    drop(held);
    assert!(desk.ask(rule(60), 2, MOST_BYTES).is_ok());
}

#[test]
fn python_is_told_of_a_withdrawn_question_only_if_it_had_come_for_it() {
    let desk = Arc::new(Desk::default());
    drop(desk.ask(rule(1), 8, MOST_BYTES).unwrap());
    assert_eq!(desk.questions(Duration::ZERO), (Vec::new(), Vec::new()));
    let taken = desk.ask(rule(1), 8, MOST_BYTES).unwrap();
    let (asked, _) = desk.questions(Duration::ZERO);
    drop(taken);
    assert_eq!(desk.questions(Duration::ZERO), (Vec::new(), vec![asked[0].0]));
    assert!(!desk.reply(asked[0].0, Reply::Holds(true)));
    assert_eq!(desk.counts().1, 1, "a late reply is counted");
}

#[test]
fn of_two_replies_the_first_counts() {
    let desk = Arc::new(Desk::default());
    let mut pending = desk.ask(people("moderators"), 8, MOST_BYTES).unwrap();
    let id = desk.questions(Duration::ZERO).0[0].0;
    assert!(desk.reply(id, Reply::Labels(vec!["ham".into()])));
    assert!(!desk.reply(id, Reply::Labels(vec!["spam".into()])));
    assert_eq!(told(&mut pending), Some(Reply::Labels(vec!["ham".into()])));
    drop(pending);
    assert_eq!(desk.questions(Duration::ZERO), (Vec::new(), Vec::new()), "what was answered is not withdrawn");
}

#[test]
fn stopping_ends_every_wait_for_people_and_none_for_rules() {
    let desk = Arc::new(Desk::default());
    let mut waiting = desk.ask(people("moderators"), 8, MOST_BYTES).unwrap();
    let mut rules = desk.ask(rule(1), 8, MOST_BYTES).unwrap();
    let id = desk.questions(Duration::ZERO).0[0].0;
    desk.close_people();
    assert_eq!(told(&mut waiting), Some(Reply::Nothing));
    assert_eq!(told(&mut rules), None);
    assert_eq!(desk.ask(people("moderators"), 8, MOST_BYTES).err(), Some(Refused::Closed));
    assert_eq!(desk.questions(Duration::ZERO).1, [id]);
}

#[test]
fn who_waits_for_questions_is_woken_by_the_first() {
    let desk = Arc::new(Desk::default());
    let taker = std::thread::spawn({
        let desk = Arc::clone(&desk);
        move || desk.questions(Duration::from_secs(20)).0.len()
    });
    let _pending = desk.ask(rule(1), 8, MOST_BYTES).unwrap();
    assert_eq!(taker.join().unwrap(), 1);
}
