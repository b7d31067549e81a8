"""Hashes of one password by the libraries of other systems.

Generated once with Django 5.2.19, Werkzeug 3.1.9, bcrypt 5.0.0, argon2-cffi 25.1.0 and pwdlib
0.3.1, without code of this project. PHP's hashes differ from bcrypt's in one character.
"""

PASSWORD = "pa$$wörd of old"

CHEAP = {
    "Django: pbkdf2_sha256": (
        "pbkdf2_sha256$1000$PWoxKRNn4SJ0RjcdNQEMGM$/ErG9xn6GMHQo6qKpPrN5q+20cl0AR3UVVKVT4ZxzbY="
    ),
    "Django: pbkdf2_sha1": "pbkdf2_sha1$1000$mq9oxA1UaeceC21ojudtQu$TVUN7apgxv4HtaA3DcYnBLIz8CI=",
    "Django: argon2": (
        "argon2$argon2id$v=19$m=102400,t=2,p=8$cVoxdkduQjFlb0pHSkpjM0ZXNktyWg$F05oVJrWfX2"
        "geEZTDEyHSls9l7xXtEU+eFX2ABJxBLw"
    ),
    "Django: bcrypt": "bcrypt$$2b$04$36ATFhqbi4H69HYq9DbR.uIRCQVO8YQgrCHyGgyw4u/iCEebBC9qu",
    "Django: bcrypt_sha256": (
        "bcrypt_sha256$$2b$04$VC5UZznHyi4UNfvwSU4tf.DlMiWsSAnnANysw2ia/X1.Gfo9yTRfa"
    ),
    "Django: scrypt": (
        "scrypt$1024$abcdefghijklmnopqrstuv$8$5$Icx9y881caV0gCJYrvDesUS1dPQgJcsfVy3IgHpdW"
        "M6Oxu1Uc6vGn3qZJl0bPcxCCnZEPj8cygvVmwBUPEbcBg=="
    ),
    "Werkzeug: pbkdf2:sha256": (
        "pbkdf2:sha256:1000$tCslJhkwq9mYc4M2$0982348d3877e9c6080a95dbb5f1088fd62e891f65d4"
        "1215ee5e7ee2e7b07f8d"
    ),
    "Werkzeug: pbkdf2:sha512": (
        "pbkdf2:sha512:1000$GtuNrbcRBNo0ZXtd$a9fbf9a87b30925e4a8d94463314235e6bd1d5da907c"
        "5ff82dcbbcb6392ca935a9c65cea5d66904fe5c38c727a6ed6e2927b27136453f27009ff5516f6ac"
        "66b0"
    ),
    "Werkzeug: pbkdf2:sha1": (
        "pbkdf2:sha1:1000$omi55je5kx9ZOVv1$c6bd24b58eb6471b624f99840765463395edd812"
    ),
    "Werkzeug: scrypt": (
        "scrypt:1024:8:2$D5r6pOiGJH0FWwZO$405a8c7d0619952deb79fb0ccd04b4c9764f98732298ee1"
        "4fc0c2e66c4f27d2a6629ac9f3cb9a40cfad7cd8d067e7f1ee1500002f643e95b3c2ef282c7a883e"
        "b"
    ),
    "bcrypt: 2a": "$2a$04$/daUWTZs6HztMKsj1zR96ewZMRoWIER4Fyd.FRQcw8ZZzZf.Va.hu",
    "bcrypt: 2b": "$2b$04$grT8o7lcsSvhg7.xyGJmaur.9nwq5anS3U8ehPlgZY5vCEH6oK8zS",
    "PHP: 2y": "$2y$04$grT8o7lcsSvhg7.xyGJmaur.9nwq5anS3U8ehPlgZY5vCEH6oK8zS",
    "argon2-cffi: argon2i": (
        "$argon2i$v=19$m=256,t=2,p=2$FKkvJRJdm3Se4Nc7$W10gUg9J76EmBijkqOtlPMBOmuo4E/Xu"
    ),
    "argon2-cffi: argon2d": (
        "$argon2d$v=19$m=256,t=2,p=2$BokHqt8vyoeAescs$QKPOLf1CBPZJv2s6yEFP/p0YY/k2WdoV"
    ),
    "argon2-cffi: argon2id": (
        "$argon2id$v=19$m=256,t=2,p=2$XH2A+XylTiDFMhWi$YCa4zLIwUUTO3rvr1kUutU8z61C/iudo"
    ),
    "argon2-cffi: argon2i, version 16": (
        "$argon2i$v=16$m=256,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$A66Len3lh03ksphklb9pMFQrojA2W"
        "Up1zqn21A9En5A"
    ),
    "pwdlib: bcrypt": "$2b$04$GB.8RixfC8pMOCJSB/HedO8X3/LUorgTvnL6Jj3GpM6OrP76H0Irm",
}
"""With the lowest cost of the libraries, except Django's argon2, which has its default cost."""

DEFAULT = {
    "Django: pbkdf2_sha256": (
        "pbkdf2_sha256$1000000$53nm1GaAq8a1uyzhnEDAXP$8vN+jD/Jul6ddq9mZ7nWgeWtsnsc1UJT+tkQkwGppVQ="
    ),
    "Django: scrypt": (
        "scrypt$16384$p0MVc19Y1njUpt2QQl2oS1$8$5$lcTGA1g29xDHdCS9+WptAxdiYpjojHkHOJ9VeY76"
        "lbge4SKbejsqD7Rak77D637KE1zZ4L7UtcpPBcfnA/mrow=="
    ),
    "Werkzeug: pbkdf2": (
        "pbkdf2:sha256:1000000$SQpZ3dvRAO0eWWM5$1f619debd5a09ca46616e7fb9b324043cd57978c1"
        "ee8ab186c67548bf26bfe8f"
    ),
    "Werkzeug: scrypt": (
        "scrypt:32768:8:1$h9ZPg9xxxEQqaDwB$c696124e133098f1b824a614ba57e219d9a6bab108cfe9"
        "32a94ff12dbb02835d403a7f847483c03e94dc12bca8032b49ff239c9783f8c663bde91e4b93fe57"
        "fa"
    ),
    "argon2-cffi: argon2id": (
        "$argon2id$v=19$m=65536,t=3,p=4$WPm5dJSPY8DBZ0lyl2rQuw$Yu2EvK3ykO3MoKkOtKGvxHpVgE"
        "UOGy0IabdD3zzTL4g"
    ),
    "bcrypt: 2b": "$2b$12$rzngj8JP8zL13cwQ2PUVt.xUtgQFL1p48lSMRCiQ2B.FiTkmuNOp6",
    "pwdlib: argon2id": (
        "$argon2id$v=19$m=65536,t=3,p=4$PIlqHNHlywPB8CEqZ48ctQ$NEFF0msPxGIWzGAZxUNKjnC/T2"
        "Gjp1N1DXZoGjdf7vw"
    ),
}
"""With the default cost of the libraries."""

BCRYPT_OF_72 = "$2b$04$TjyJYvuyampzjSkx/zG9t.rR.dwYARwOotkAWNfyz9/TLuMCmL4EK"
"""bcrypt of 72 letters x, its maximum."""
UNUSABLE = "!RbfNMdA3BcUTcWn5iAjvqhQQNvhjFwFgSM51EI5l"
"""The value that Django stores for an account without a usable password."""
