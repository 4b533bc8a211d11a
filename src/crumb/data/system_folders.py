"""Folders that are never data: made by NAS devices, Windows, macOS, phones and programs.

They contain copies, thumbnails and deleted files that look like images of the data set. Every
reader of folders uses this list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

REASON = "a folder of the system, never data"

_NAMES = frozenset(
    name.casefold()
    for name in (
        # Synology: indexes and thumbnails, deleted files, snapshots, packages.
        *("@eaDir", "#recycle", "#snapshot", "@tmp", "@sharebin", "@sharesnap", "@appstore"),
        *("@database", "@img_bkp_cache", "@S2S", "@spool", "@synologydrive", "@cloudsync"),
        *("@USBCopy", "@docker", "@download", "@appdata", "@apphome", "@appconf", "@apptemp"),
        ".SynologyWorkingDirectory",
        # QNAP, Western Digital, NetApp, ZFS and other servers.
        *("@Recycle", "@Recently-Snapshot", ".@__thumb", ".@upload_cache", ".@analytic"),
        *(".streams", ".wdmc", ".wdcache", ".twonkymedia", ".snapshot", ".snapshots", "~snapshot"),
        *(".zfs", "lost+found", "Network Recycle Bin", "Recycle Bin", "trashbox", "RecycleBin$"),
        *("DfsrPrivate", "_vti_cnf", "_vti_pvt"),
        # Windows.
        *("System Volume Information", "$WinREAgent", "$SysReset", "$Extend", "$GetCurrent"),
        *("$AV_ASW", "Config.Msi", "MSOCache"),
        *("msdownld.tmp", "WindowsImageBackup", "WpSystem", "_gsdata_"),
        # macOS, also on other file systems and in ZIP files.
        *("__MACOSX", ".Trash", ".Trashes", ".Spotlight-V100", ".fseventsd", ".TemporaryItems"),
        *(".DocumentRevisions-V100", ".AppleDouble", ".AppleDB", ".AppleDesktop"),
        *("Network Trash Folder", "Temporary Items", "TheVolumeSettingsFolder"),
        *("TheFindByContentFolder", ".MobileBackups", ".apdisk", "iPod Photo Cache"),
        *("iPhoto Library", "Aperture Library"),
        # Linux desktops, phones, cameras.
        *(".thumbnails", ".thumb", ".thumbs", ".xvpics", ".comments", ".dtrash", "LOST.DIR"),
        *(".picasaoriginals", ".globalTrash", ".trashbin", ".estrongs"),
        # Programs for file synchronisation, version control or notebooks.
        *(".stfolder", ".stversions", ".sync", ".dropbox.cache"),
        *(".tmp.drivedownload", ".tmp.driveupload", ".ipynb_checkpoints", "__pycache__"),
    )
)
# Words that a class may have in other letter case.
_EXACT = frozenset(["RECYCLER", "RECYCLED", "THMBNL"])
_PATTERNS = re.compile(
    r"\.trash-[0-9]+|found\.[0-9]{3}|\$recycle\.bin.*|@gmt-[0-9.-]+|network recycle bin [0-9]+"
    # Windows Setup: $Windows.~BT, $WINDOWS.~Q, $INPLACE.~TR and others.
    r"|\$[^/]+\.~[a-z]+"
    # Photo libraries of macOS and Lightroom: they look like one file and hold thousands of
    # previews.
    r"|.+\.(photoslibrary|photolibrary|migratedphotolibrary|aplibrary|lrdata)",
    re.IGNORECASE,
)


def is_system_folder(name: str) -> bool:
    """Whether a folder with this name is never data. Letter case is ignored, as on Windows."""
    return name in _EXACT or name.casefold() in _NAMES or bool(_PATTERNS.fullmatch(name))


def in_system_folder(folders: Iterable[str]) -> bool:
    """Whether any folder on a path is never data."""
    return any(map(is_system_folder, folders))


def system_line(skipped: Sequence[object]) -> list[str]:
    """A line that counts and names skipped folders; empty if there are none."""
    if not skipped:
        return []
    many = "folder" if len(skipped) == 1 else "folders"
    return [f"{len(skipped)} {many} of the system, never data, the first is {skipped[0]}"]
