//! What became of each case, for people and for programs.

use std::fmt;

use serde_json::{Value, json};

/// What became of a case.
pub struct Outcome {
    pub id: String,
    pub area: String,
    pub level: String,
    pub verdict: Verdict,
}

pub enum Verdict {
    Passed,
    /// What was sent and came, and why that is wrong.
    Failed(String),
    /// The reviewed reason.
    NotApplicable(&'static str),
}

/// All outcomes, in the order of the file.
#[derive(Default)]
pub struct Report {
    pub outcomes: Vec<Outcome>,
    /// What servers said beside.
    pub complaints: Vec<String>,
}

impl Report {
    pub fn failed(&self) -> usize {
        self.count(|verdict| matches!(verdict, Verdict::Failed(_)))
    }

    fn count(&self, of: impl Fn(&Verdict) -> bool) -> usize {
        self.outcomes.iter().filter(|outcome| of(&outcome.verdict)).count()
    }

    /// Returns each case with `id`, `area`, `level`, `result` and `reason`.
    pub fn json(&self) -> Value {
        let of = |outcome: &Outcome| {
            let (result, reason) = match &outcome.verdict {
                Verdict::Passed => ("passed", Value::Null),
                Verdict::Failed(why) => ("failed", why.as_str().into()),
                Verdict::NotApplicable(why) => ("not applicable", (*why).into()),
            };
            json!({
                "id": outcome.id,
                "area": outcome.area,
                "level": outcome.level,
                "result": result,
                "reason": reason,
            })
        };
        self.outcomes.iter().map(of).collect()
    }
}

/// The failures and what is not applicable; then the figures.
impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for outcome in &self.outcomes {
            let Outcome { id, area, level, verdict } = outcome;
            match verdict {
                Verdict::Passed => {}
                Verdict::Failed(why) => {
                    let why = why.trim_end().replace('\n', "\n    ");
                    writeln!(to, "FAILED {id} (area {area}, level {level})\n    {why}")?;
                }
                Verdict::NotApplicable(why) => writeln!(to, "not applicable {id} (area {area}): {why}")?,
            }
        }
        if self.failed() > 0 && !self.complaints.is_empty() {
            writeln!(to, "the server said:")?;
            for line in &self.complaints {
                writeln!(to, "    {line}")?;
            }
        }
        let passed = self.count(|verdict| matches!(verdict, Verdict::Passed));
        let not_applicable = self.count(|verdict| matches!(verdict, Verdict::NotApplicable(_)));
        writeln!(to, "conformance: {passed} passed, {} failed, {not_applicable} not applicable", self.failed())
    }
}
