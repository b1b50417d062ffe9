//! Percent-encoding, as the server decodes it (SEMANTICS 15): for queries, and in tests for paths.

/// The pairs of a query or a form, in order. The error says what is wrong with one.
pub(crate) fn pairs(text: &[u8]) -> Result<Vec<(String, String)>, String> {
    let mut all = Vec::new();
    for pair in text.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
        let equals = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
        let name = decode(&pair[..equals], Plus::Space)?;
        if name.is_empty() {
            return Err("a parameter has no name".to_owned());
        }
        all.push((name, decode(pair.get(equals + 1..).unwrap_or_default(), Plus::Space)?));
    }
    Ok(all)
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plus {
    /// In queries and forms.
    Space,
    /// In paths.
    Plus,
}

pub(crate) fn decode(text: &[u8], plus: Plus) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        out.push(match byte {
            b'+' if plus == Plus::Space => b' ',
            b'%' => {
                let digit = |at: usize| text.get(at).and_then(|&byte| (byte as char).to_digit(16));
                let (Some(high), Some(low)) = (digit(at), digit(at + 1)) else {
                    return Err(format!("{:?} has a broken percent-encoding", String::from_utf8_lossy(text)));
                };
                at += 2;
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(out).map_err(|_| format!("{:?} is not UTF-8", String::from_utf8_lossy(text)))
}
