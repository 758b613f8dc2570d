use std::cell::RefCell;
use std::collections::VecDeque;

use futures::task::noop_waker;

use super::*;

/// A pipe with a bounded buffer that gives and takes at most `step` bytes a call.
struct Pipe {
    bytes: VecDeque<u8>,
    step: usize,
    capacity: usize,
    ended: bool,
    writes: usize,
    flushes: usize,
}

impl Pipe {
    fn new(step: usize, capacity: usize) -> Self {
        Self { bytes: VecDeque::new(), step, capacity, ended: false, writes: 0, flushes: 0 }
    }

    fn of(bytes: &[u8], step: usize) -> Self {
        Self { bytes: bytes.iter().copied().collect(), ended: true, ..Self::new(step, usize::MAX) }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        assert!(!buf.is_empty(), "a read without room looks like the end");
        if self.bytes.is_empty() {
            return if self.ended { Poll::Ready(Ok(0)) } else { Poll::Pending };
        }
        let n = buf.len().min(self.step).min(self.bytes.len());
        for (to, from) in buf.iter_mut().zip(self.bytes.drain(..n)) {
            *to = from;
        }
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let n = buf.len().min(self.step).min(self.capacity - self.bytes.len());
        if n == 0 {
            return Poll::Pending;
        }
        self.writes += 1;
        self.bytes.extend(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushes += 1;
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn frames_of(lengths: &[usize]) -> Vec<Bytes> {
    let frame = |(i, length): (usize, &usize)| (0..*length).map(|at| (at * 7 + i) as u8).collect();
    lengths.iter().enumerate().map(frame).collect()
}

fn read_all(pipe: &mut Pipe) -> (Vec<Bytes>, ReadError) {
    let waker = noop_waker();
    let mut cx = Context::from_waker(&waker);
    let mut reader = Reader::new();
    let mut all = Vec::new();
    loop {
        let mut frames = Vec::new();
        match reader.poll_frames(&mut cx, pipe, &mut frames) {
            Poll::Ready(Ok(())) => all.append(&mut frames),
            Poll::Ready(Err(error)) => return (all, error),
            Poll::Pending => unreachable!("the pipe has ended"),
        }
    }
}

/// Writes all frames through a writer, emptying the pipe whenever it is full.
fn write_all(frames: &[Bytes], step: usize, capacity: usize) -> (Vec<u8>, usize, Pipe) {
    let waker = noop_waker();
    let mut cx = Context::from_waker(&waker);
    let source = RefCell::new(frames.iter().cloned().collect::<VecDeque<_>>());
    let counted = RefCell::new(0);
    let mut writer = Writer::new(1);
    let mut pipe = Pipe::new(step, capacity);
    let mut out = Vec::new();
    loop {
        let round = writer.poll_write(
            &mut cx,
            &mut pipe,
            100_000,
            |take| while source.borrow_mut().pop_front().is_some_and(&mut *take) {},
            |bytes| *counted.borrow_mut() += bytes,
        );
        out.extend(pipe.bytes.drain(..));
        if let Poll::Ready(end) = round
            && end.expect("the pipe does not fail") == Written::All
        {
            return (out, counted.into_inner(), pipe);
        }
    }
}

const MIXED: [usize; 12] =
    [1, 127, 128, 300, CHUNK - 2, CHUNK, CHUNK + 1, 66_000, 5, MAX_FRAME, FIRST_ALLOCATION + 1, 2];

#[test]
fn frames_come_out_as_they_went_in_however_they_are_cut() {
    let frames = frames_of(&MIXED);
    for (step, capacity) in [(1, 1_000), (1_000, 999), (CHUNK, 1 << 20), (usize::MAX, usize::MAX)] {
        let (bytes, counted, _) = write_all(&frames, step, capacity);
        assert_eq!(bytes[0], 1, "the lane's name comes first");
        assert_eq!(counted, MIXED.iter().sum::<usize>());
        let (read, error) = read_all(&mut Pipe::of(&bytes[1..], step));
        assert!(read == frames, "step {step}");
        assert!(matches!(error, ReadError::Ended), "{error}");
    }
}

#[test]
fn small_frames_share_writes_and_one_flush() {
    let frames = frames_of(&[100; 1_000]);
    let (_, _, pipe) = write_all(&frames, usize::MAX, usize::MAX);
    assert!(pipe.writes <= 2 + 101 * 1_000 / CHUNK, "{} writes", pipe.writes);
    assert_eq!(pipe.flushes, 1);
}

#[test]
fn the_name_of_a_lane_goes_out_without_any_frame() {
    let (bytes, _, pipe) = write_all(&[], usize::MAX, usize::MAX);
    assert_eq!((bytes.as_slice(), pipe.flushes), (&[1][..], 1));
}

#[test]
fn what_no_frame_can_be_is_refused() {
    let cases: [(&[u8], &str); 6] = [
        (&[0], "BadLength"),
        (&[0x81, 0x00], "BadLength"),
        (&[0xff, 0xff, 0xff], "TooLong"),
        (&[0x80, 0x80, 0x80, 0x80], "TooLong"),
        (&[5, 1, 2], "Truncated"),
        (&[0x80], "Truncated"),
    ];
    for (bytes, expected) in cases {
        let (frames, error) = read_all(&mut Pipe::of(bytes, 1));
        assert!(frames.is_empty());
        assert!(format!("{error:?}").starts_with(expected), "{bytes:?}: {error:?}");
    }
}

#[test]
fn frames_before_an_error_are_kept() {
    let (frames, error) = read_all(&mut Pipe::of(&[1, 42, 0, 9, 9], usize::MAX));
    assert_eq!(frames, [Bytes::from_static(&[42])]);
    assert!(matches!(error, ReadError::BadLength), "{error}");
}

#[test]
fn one_byte_more_than_a_frame_may_have_is_refused_before_it_is_read() {
    let mut prefix = Vec::new();
    write_length(MAX_FRAME + 1, &mut prefix);
    assert!(matches!(read_length(&prefix), Err(ReadError::TooLong)));
    prefix.clear();
    write_length(MAX_FRAME, &mut prefix);
    assert!(matches!(read_length(&prefix), Ok(Some((MAX_FRAME, 3)))));
}

#[test]
fn a_length_alone_sets_little_memory_aside() {
    let waker = noop_waker();
    let mut cx = Context::from_waker(&waker);
    let mut bytes = Vec::new();
    write_length(MAX_FRAME, &mut bytes);
    bytes.push(1);
    let mut pipe = Pipe { ended: false, ..Pipe::of(&bytes, usize::MAX) };
    let mut reader = Reader::new();
    assert!(reader.poll_frames(&mut cx, &mut pipe, &mut Vec::new()).is_pending());
    let large = reader.large.expect("a large frame has begun");
    assert_eq!((large.buffer.len(), large.filled), (FIRST_ALLOCATION, 1));
}
