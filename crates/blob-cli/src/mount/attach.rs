//! Putting the file system on a directory, and taking it off: with mount(2) as root, else by `fusermount3`.

use std::ffi::{CString, OsStr};
use std::io::{self, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags, stat};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::mount::{MountFlags, UnmountFlags, unmount};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{getegid, geteuid};

use super::point::KIND;
use crate::error::{Failure, Kind};

const DEVICE: &str = "/dev/fuse";
const HELPER: &str = "fusermount3";

/// Where a file system was put.
#[derive(Clone, Debug)]
pub(super) struct Place {
    directory: PathBuf,
    /// The number by which the system tells this mount from others.
    device: u64,
}

/// What became of a mount that was taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detached {
    /// Nobody sees it any more.
    Gone,
    /// Those who had files open, or stood in a directory of it, still do.
    InUse,
}

/// Mounts on `directory` what whoever holds the returned device answers for. Nothing is answered yet.
pub(super) fn attach(directory: &Path, name: &str, allow_other: bool) -> Result<OwnedFd, Failure> {
    if geteuid().is_root() {
        return attach_as_root(directory, name, allow_other);
    }
    attach_by_helper(directory, name, allow_other)
}

fn attach_as_root(directory: &Path, name: &str, allow_other: bool) -> Result<OwnedFd, Failure> {
    let opened = rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let device = opened.map_err(|errno| unavailable(format!("opening {DEVICE}"), errno))?;
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let other = if allow_other { ",allow_other" } else { "" };
    // 40000 is the type of a directory.
    let options =
        format!("fd={},rootmode=40000,user_id={user},group_id={group},default_permissions{other}", device.as_raw_fd());
    let options = CString::new(options).unwrap_or_default();
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    let mounted = rustix::mount::mount(name, directory, KIND, flags, options.as_c_str());
    mounted.map_err(|errno| unavailable(format!("mounting on {}", directory.display()), errno))?;
    Ok(device)
}

/// What the system says when it has no FUSE, or none for us.
fn unavailable(action: String, errno: Errno) -> Failure {
    let failure = Failure::io(action, &errno.into()).of_kind(Kind::General);
    match errno {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => failure.with_hint(
            "FUSE is not there: `modprobe fuse` loads it; containers need `--device /dev/fuse --cap-add SYS_ADMIN`",
        ),
        Errno::PERM | Errno::ACCESS => {
            failure.with_hint("mounting is not allowed here: containers need `--device /dev/fuse --cap-add SYS_ADMIN`")
        }
        _ => failure,
    }
}

/// Has `fusermount3`, which is allowed to, open the device, mount, and pass the device over a socket.
fn attach_by_helper(directory: &Path, name: &str, allow_other: bool) -> Result<OwnedFd, Failure> {
    let action = || format!("mounting on {}", directory.display());
    let failed = |error: &io::Error| Failure::io(action(), error).of_kind(Kind::General);
    let (ours, theirs) = UnixStream::pair().map_err(|error| failed(&error))?;
    fcntl_setfd(&theirs, FdFlags::empty()).map_err(|errno| failed(&errno.into()))?;
    // A comma would end the name.
    let name: String = name.chars().map(|letter| if ",\\".contains(letter) { '_' } else { letter }).collect();
    let other = if allow_other { ",allow_other" } else { "" };
    let mut helper = Command::new(HELPER);
    helper.arg("-o").arg(format!("ro,nosuid,nodev,default_permissions,fsname={name},subtype=blob{other}"));
    helper.arg("--").arg(directory).env("_FUSE_COMMFD", theirs.as_raw_fd().to_string());
    let spawned = helper.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| without_helper(&action(), &error))?;
    drop(theirs);
    let device = receive(&ours);
    let mut said = String::new();
    if let Some(mut errors) = child.stderr.take() {
        // What it does not say is not known.
        let _ = errors.read_to_string(&mut said);
    }
    let status = child.wait().map_err(|error| failed(&error))?;
    match device {
        Ok(Some(device)) if status.success() => Ok(device),
        Err(error) if status.success() => Err(failed(&error)),
        _ => Err(refused(action(), &said)),
    }
}

fn without_helper(action: &str, error: &io::Error) -> Failure {
    let failure = Failure::new(Kind::General, format!("{action} with {HELPER}")).because(error);
    failure.with_hint(format!("who is not root mounts with {HELPER}: `apt install fuse3`, or `dnf install fuse3`"))
}

/// What the helper says when it refuses.
fn refused(action: String, said: &str) -> Failure {
    let said = said.trim();
    let why = if said.is_empty() { format!("{HELPER} refused") } else { said.replace('\n', "; ") };
    let failure = Failure::new(Kind::General, action).because(&io::Error::other(why));
    if said.contains("user_allow_other") {
        return failure
            .with_hint("root allows --allow-other to everybody by the line user_allow_other in /etc/fuse.conf");
    }
    if said.contains(DEVICE) && said.contains("ermission denied") {
        return failure.with_hint(
            "/dev/fuse is for root alone here: `chmod 666 /dev/fuse` lets everybody mount, as most systems do",
        );
    }
    if said.contains(DEVICE) || said.contains("modprobe") {
        return failure.with_hint("FUSE is not there: `modprobe fuse` loads it");
    }
    failure
}

/// The descriptor that the helper sends with one byte; none if it ends without.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    loop {
        match recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => break,
        }
    }
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}

impl Place {
    /// What is mounted on `directory` now, which answers already.
    pub(super) fn new(directory: PathBuf) -> Result<Self, Failure> {
        match stat(&directory) {
            Ok(found) => Ok(Self { directory, device: found.st_dev }),
            Err(errno) => {
                let_go(&directory);
                Err(Failure::io(format!("looking at {}", directory.display()), &errno.into()))
            }
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Takes the mount off its directory, also when it is in use. What somebody else mounted there since is left alone.
    pub(super) fn detach(&self) -> Result<Detached, Failure> {
        match stat(&self.directory) {
            Ok(found) if found.st_dev == self.device => {}
            // Nobody answers for it any more, and it stands in the way.
            Err(Errno::NOTCONN) => {}
            _ => return Ok(Detached::Gone),
        }
        let failed = |errno: Errno| {
            let hint = format!("`umount -l {}` takes it off", self.directory.display());
            Failure::io(format!("unmounting {}", self.directory.display()), &errno.into()).with_hint(hint)
        };
        match take_off(&self.directory, UnmountFlags::empty()) {
            // Or somebody was faster.
            Ok(()) | Err(Errno::INVAL) => Ok(Detached::Gone),
            Err(Errno::BUSY) => {
                take_off(&self.directory, UnmountFlags::DETACH).map_err(failed)?;
                Ok(Detached::InUse)
            }
            Err(errno) => Err(failed(errno)),
        }
    }
}

/// Takes off what was mounted a moment ago and will not be answered for.
pub(super) fn let_go(directory: &Path) {
    if let Err(errno) = take_off(directory, UnmountFlags::DETACH) {
        tracing::warn!("{} stays mounted: {errno}", directory.display());
    }
}

fn take_off(directory: &Path, flags: UnmountFlags) -> Result<(), Errno> {
    match unmount(directory, flags | UnmountFlags::NOFOLLOW) {
        Err(Errno::PERM) => {
            let lazily = flags.contains(UnmountFlags::DETACH);
            let words = if lazily { &["-u", "-q", "-z", "--"][..] } else { &["-u", "-q", "--"] };
            let mut helper = Command::new(HELPER);
            helper.args(words.iter().map(OsStr::new)).arg(directory);
            helper.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            match helper.status() {
                Ok(status) if status.success() => Ok(()),
                Ok(_) if !lazily => Err(Errno::BUSY),
                _ => Err(Errno::PERM),
            }
        }
        done => done,
    }
}
