"""What the pages say, in the languages that they come in."""

from collections.abc import Mapping

Texts = Mapping[str, str]

ENGLISH: Texts = {
    "email": "E-mail address",
    "password": "Password",
    "new_password": "New password",
    "at_least": "At least {least} characters. A sentence that only you know is a good one.",
    "another": "Ask for another link",
    "error": "That did not work",
    "confirm.title": "Confirm your e-mail address",
    "confirm.lead": "Your password shows that the account is yours. Leave it empty if you are "
    "logged in here.",
    "confirm.button": "Confirm",
    "confirm.done": "Your e-mail address is confirmed.",
    "drop.lead": "You did not choose a password here, or do not know it? Then the address is "
    "confirmed too, "
    "what is in the account is removed, and you get a mail to choose a password.",
    "drop.button": "Confirm without a password",
    "drop.done": "Your e-mail address is confirmed. A mail to choose a password is on its way.",
    "reset.title": "Choose a new password",
    "reset.lead": "Everybody who is logged in to the account is logged out.",
    "reset.button": "Save the password",
    "reset.done": "Your password is changed. Log in with the new one.",
    "undo.title": "Take your account back",
    "undo.lead": "Your account gets its old e-mail address back. Everybody is logged out, the "
    "password does "
    "not work any more, and you get a mail to choose another.",
    "undo.button": "Take the account back",
    "undo.done": "Your account has its old address again. A mail to choose a password is on "
    "its way.",
    "invitation.title": "Accept your invitation",
    "invitation.lead": "An account was made for you. Choose its password.",
    "invitation.button": "Accept",
    "invitation.done": "Welcome. Log in with your e-mail address and the password.",
    "forgot.title": "Forgot your password?",
    "forgot.lead": "You get a mail with a link to choose another.",
    "forgot.button": "Send the mail",
    "forgot.done": "If there is an account with this address, a mail is on its way.",
    "invalid_one_time_secret": "This link does not work any more: it was used, is too "
    "old, or there is a newer one.",
    "proof_required": "Log in to the account that asked for this, or type its password.",
    "password_needed": "Type the password, or confirm without one below.",
    "wrong_password": "The password is wrong.",
    "email_taken": "Another account has this address by now.",
    "too_many_attempts": "Too many attempts. Try again later.",
    "email_invalid": "Type one e-mail address, such as name@example.com.",
    "password_too_short": "The password is too short: at least {least} characters.",
    "password_too_long": "The password is too long.",
    "password_common": "Too many people have this password. Choose another.",
    "password_guessable": "The password is made too much of your address, or of the name of this "
    "service.",
    "password_breached": "The password is known from a breach of another service. Choose another.",
    "other": "That is not possible at the moment. Try again later.",
}
KOREAN: Texts = {
    "email": "이메일 주소",
    "password": "비밀번호",
    "new_password": "새 비밀번호",
    "at_least": "{least}자 이상이어야 합니다. 본인만 아는 문장을 쓰면 좋습니다.",
    "another": "링크 다시 받기",
    "error": "처리하지 못했습니다",
    "confirm.title": "이메일 주소 확인",
    "confirm.lead": "본인의 계정인지 비밀번호로 확인합니다. 여기에 로그인되어 있으면 비워 두세요.",
    "confirm.button": "확인",
    "confirm.done": "이메일 주소가 확인되었습니다.",
    "drop.lead": "여기에서 비밀번호를 정한 적이 없거나 모르시나요? 그래도 주소는 확인되며, "
    "계정에 있던 내용은 "
    "지워지고 비밀번호를 정하는 메일을 보내 드립니다.",
    "drop.button": "비밀번호 없이 확인",
    "drop.done": "이메일 주소가 확인되었습니다. 비밀번호를 정하는 메일을 보냈습니다.",
    "reset.title": "새 비밀번호 정하기",
    "reset.lead": "이 계정의 모든 로그인이 끝납니다.",
    "reset.button": "비밀번호 저장",
    "reset.done": "비밀번호가 바뀌었습니다. 새 비밀번호로 로그인하세요.",
    "undo.title": "계정 되찾기",
    "undo.lead": "계정의 이메일 주소를 예전 주소로 되돌립니다. 모든 로그인이 끝나고 "
    "비밀번호를 더 이상 쓸 수 "
    "없으며, 새 비밀번호를 정하는 메일을 보내 드립니다.",
    "undo.button": "계정 되찾기",
    "undo.done": "계정이 예전 주소로 돌아왔습니다. 비밀번호를 정하는 메일을 보냈습니다.",
    "invitation.title": "초대 수락",
    "invitation.lead": "회원님의 계정이 만들어졌습니다. 비밀번호를 정해 주세요.",
    "invitation.button": "수락",
    "invitation.done": "환영합니다. 이메일 주소와 비밀번호로 로그인하세요.",
    "forgot.title": "비밀번호를 잊으셨나요?",
    "forgot.lead": "새 비밀번호를 정하는 링크를 메일로 보내 드립니다.",
    "forgot.button": "메일 보내기",
    "forgot.done": "이 주소의 계정이 있으면 곧 메일이 도착합니다.",
    "invalid_one_time_secret": "이 링크는 더 이상 쓸 수 없습니다. 이미 썼거나, 오래되었거나, "
    "더 새로운 링크가 있습니다.",
    "proof_required": "요청한 계정에 로그인하거나 그 비밀번호를 입력하세요.",
    "password_needed": "비밀번호를 입력하거나, 아래에서 비밀번호 없이 확인하세요.",
    "wrong_password": "비밀번호가 맞지 않습니다.",
    "email_taken": "이 주소는 이미 다른 계정이 쓰고 있습니다.",
    "too_many_attempts": "시도가 너무 많습니다. 나중에 다시 해 주세요.",
    "email_invalid": "name@example.com 같은 이메일 주소 하나를 입력하세요.",
    "password_too_short": "비밀번호가 너무 짧습니다. {least}자 이상이어야 합니다.",
    "password_too_long": "비밀번호가 너무 깁니다.",
    "password_common": "너무 많은 사람이 쓰는 비밀번호입니다. 다른 것을 정하세요.",
    "password_guessable": "비밀번호가 주소나 이 서비스의 이름과 너무 비슷합니다.",
    "password_breached": "다른 서비스에서 유출된 비밀번호입니다. 다른 것을 정하세요.",
    "other": "지금은 처리할 수 없습니다. 나중에 다시 해 주세요.",
}
LANGUAGES: Mapping[str, Texts] = {"en": ENGLISH, "ko": KOREAN}


def language_of(accepted: str | None, *, fallback: str) -> str:
    """The language that a reader likes best of those that there are (RFC 9110, section 12.5.4).

    `accepted` is the header Accept-Language; `fallback` where it names none of them.
    """
    found: list[tuple[float, str]] = []
    for item in (accepted or "")[:1000].split(","):
        tag, _, weight = item.strip().partition(";")
        name = tag.strip().lower().partition("-")[0]
        if name in LANGUAGES:
            try:
                quality = float(weight.strip().removeprefix("q=") or 1)
            except ValueError:
                continue
            if quality > 0:
                found.append((quality, name))
    best = fallback if fallback in LANGUAGES else "en"
    # Of those that are liked as much, the first that was named.
    return max(found, key=lambda pair: pair[0])[1] if found else best
