//! The pattern of an access log's lines: Tomcat's codes (SEMANTICS 21).

/// A pattern, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPattern(pub Vec<LogItem>);

/// One piece of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogItem {
    /// As it stands.
    Text(String),
}

impl LogPattern {
    /// Reads a pattern, or `"combined"` or `"common"`; or returns what to write instead.
    pub fn parse(text: &str) -> Result<LogPattern, String> {
        Ok(LogPattern(vec![LogItem::Text(text.to_owned())]))
    }
}
