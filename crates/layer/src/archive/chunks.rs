//! Bytes that another thread sends in pieces, as a reader.

use std::io::Read;
use std::sync::mpsc;

/// Reads what another thread sends in pieces; an error that it sends is the reader's.
pub(crate) struct ChunkReader {
    chunks: mpsc::Receiver<std::io::Result<Vec<u8>>>,
    current: Vec<u8>,
    at: usize,
}

impl ChunkReader {
    pub(crate) fn new(chunks: mpsc::Receiver<std::io::Result<Vec<u8>>>) -> Self {
        Self { chunks, current: Vec::new(), at: 0 }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.current.len() {
            match self.chunks.recv() {
                Ok(chunk) => (self.current, self.at) = (chunk?, 0),
                Err(mpsc::RecvError) => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len() - self.at);
        buffer[..length].copy_from_slice(&self.current[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}
