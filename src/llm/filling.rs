//! What a question's template is filled with.

use serde::Serialize;

/// What a template is filled with: what it is asked about, and what was wrong with the last answer.
#[derive(Debug, Serialize)]
pub(super) struct Filling<'a, T: Serialize> {
    #[serde(flatten)]
    pub about: &'a T,
    pub attempt: usize,
    pub problem: Option<&'a str>,
    pub answer: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::prompts;
    use super::*;
    use crate::endpoint::Template;

    #[test]
    fn instruction_and_question_are_parted_and_a_second_attempt_says_what_was_wrong() {
        let template = Template::new("edit", prompts::EDIT).unwrap();
        let about = json!({ "prompt": "what?", "response": "<b> & co", "preferred": null, "max_percent": 30 });
        let first = template.request(&Filling { about: &about, attempt: 1, problem: None, answer: None }).unwrap();
        let [system, user] = first.messages.as_slice() else { panic!("{first:?}") };
        assert!(system.role == "system" && system.content.contains("as little as possible"), "{system:?}");
        assert!(user.content.starts_with("Question:\nwhat?") && user.content.ends_with("<b> & co"), "{user:?}");
        let filling = Filling { about: &about, attempt: 2, problem: Some("it is empty"), answer: Some("") };
        let second = template.request(&filling).unwrap();
        let question = &second.messages[1].content;
        assert!(question.contains("cannot be used: it is empty.") && question.contains("at most 30 %"), "{question}");
    }
}
