"""The id of each kind of log entry, by its event."""

from __future__ import annotations

MESSAGE_IDS = {
    "late": "4eb802c1b15a47109c3a1ed17eb3ce05",
    "bare": "07f74e8cbf4e4d95b930dc11c19e4d63",
    "cut": "d69fb0889cb145e7b33352387e93d814",
    "safe": "78af44fadbd64a689ff1f2268d2cc3ff",
    "applied": "9bf4376bf36f4b1bb7bab920dd7c875f",
    "drift": "adfaeb3e39054cf29169965400f6ba6a",
    "armed": "45979e1ccf1b45b3946881a2dc857cc9",
    "unarmed": "120c2d510a264f848d250948b3d70c7d",
    "still-armed": "7f1242ecc9e04110a9b5b748f1696630",
    "disarmed": "d7f4d3f0888b4ba89180cf8ea5280b53",
    "restored": "2d49ef7e5df7489087930464f2846417",
    "stricter": "463ebe24150544e98fd41438e6d39185",
    "record": "e84c81bbe90241e5b4ff6376b8121133",
    "refused": "c09fa3436aea4a8dac043e0049a3efb9",
    "unwatched": "d91d02da8ed44756b9b4fd2af751d319",
    "nearly-full": "a44005925c794fe0abf0a5839af1dc08",
    "hung": "ca42c1a0cfff4282a3e9b9492010fbfb",
    "started": "7a869b3fd7264f249d922b9a57013906",
    "reloaded": "785b2006b216426f8856e72c4fe56341",
    "reload-failed": "acb5c70eb8e04758973fc3b367752362",
    "doubtful": "9f92530ac4334b339e9424d78d06bd90",
    "scan-failed": "e1d784741265454fbf69074e081121b1",
    "died": "725d5676041a47c7b1692d97df43d177",
    "advice": "f3ea325dc2c94e4cbde42898ad6ea899",
    "log-overflow": "49b77e7ef6eb47bcafea09b7767950d2",
}
