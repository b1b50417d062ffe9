//! The fuzzer's bytes as a program: what is not there is 0.

/// Read from the front.
pub struct Program {
    bytes: Vec<u8>,
    at: usize,
}

impl Program {
    pub fn new(bytes: &[u8]) -> Program {
        Program { bytes: bytes.to_vec(), at: 0 }
    }

    pub fn is_over(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub fn byte(&mut self) -> u8 {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        byte
    }

    pub fn number(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// A program of its own, of up to 47 bytes.
    pub fn part(&mut self) -> Program {
        let len = usize::from(self.byte() % 48);
        let end = (self.at + len).min(self.bytes.len());
        let part = Program::new(&self.bytes[self.at.min(end)..end]);
        self.at = end.max(self.at);
        part
    }

    /// Up to 63 bytes.
    pub fn bytes(&mut self) -> Vec<u8> {
        let len = usize::from(self.byte() % 64);
        (0..len).map(|_| self.byte()).collect()
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }
}
