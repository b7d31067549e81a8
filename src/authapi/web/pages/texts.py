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
    "drop.lead": "You did not choose a password here, or do not know it? Type the address that "
    "the mail was sent to. Then it is confirmed too, what is in the account is removed, and you "
    "get a mail to choose a password.",
    "drop.email": "E-mail address of the account",
    "drop.button": "Confirm without a password",
    "drop.done": "Your e-mail address is confirmed. A mail to choose a password is on its way.",
    "reset.title": "Choose a new password",
    "reset.lead": "Everybody who is logged in to the account is logged out.",
    "reset.button": "Save the password",
    "reset.done": "Your password is changed. Log in with the new one.",
    "undo.title": "Take your account back",
    "undo.lead": "Type the old e-mail address of your account, which the mail was sent to, to get "
    "it back. Everybody is logged out, the password does not work any more, and you get a mail to "
    "choose another.",
    "undo.email": "Old e-mail address of your account",
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
    "email_mismatch": "That is not the address that the mail was sent to. Nothing was done. Check "
    "it and try again.",
    "wrong_password": "The password is wrong.",
    "email_taken": "Another account has this address by now.",
    "too_many_attempts": "Too many attempts. Try again later.",
    "email_invalid": "Type one e-mail address, such as name@example.com.",
    "password_too_short": "The password is too short: at least {least} characters.",
    "password_too_long": "The password is too long.",
    "password_control_character": "The password holds a control character, such as a tab. "
    "Type it without.",
    "password_common": "Too many people have this password. Choose another.",
    "password_guessable": "The password is made too much of your address, or of the name of this "
    "service.",
    "password_breached": "The password is known from a breach of another service. Choose another.",
    "other": "That is not possible at the moment. Try again later.",
    "refused": "The request was not accepted. Nothing was done.",
    "again": "Open the form again",
    "to_reset": "Get a mail to choose a new password",
    "not_found.title": "Page not found",
    "not_found": "There is no page at this address. Check that you have the whole link from the "
    "mail.",
    "foreign_origin": "The form was not sent from this website, or your browser does not say where "
    "it comes from. Nothing was done. You can go on from here.",
    "wrong_destination": "This form cannot be used inside another page. Nothing was done. Open it "
    "in a window of its own.",
    "https_required": "This page needs an encrypted connection. Its address begins with https://.",
    "method_not_allowed": "This address cannot be used in that way. Nothing was done. Open the "
    "link in the mail again.",
    "unsupported_media_type": "What was sent is not the form of this page. Nothing was done. Open "
    "the form again and fill it in.",
    "malformed_request": "The form arrived damaged or incomplete. Nothing was done. Open the form "
    "again and fill it in.",
    "duplicate_header": "Your browser, or a program between it and this website, sent the same "
    "thing twice. Nothing was done. Try another browser or another network.",
    "target_too_long": "The address is too long. Open the link in the mail as it is.",
    "headers_too_large": "Your browser sent too much along with the request. Nothing was done. "
    "Delete the cookies of this website and try again.",
    "body_too_large": "There is too much text in the form. Nothing was done. Open the form again "
    "and fill in less.",
    "request_timeout": "The form took too long to arrive. Nothing was done. Check your connection "
    "and send it again.",
    "inactive_account": "The account that you are logged in to is switched off. Ask the people who "
    "run this service.",
    "internal_error": "Something went wrong on our side. Try again later.",
    "reference": "If you ask for help, give this number:",
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
    "drop.lead": "여기에서 비밀번호를 정한 적이 없거나 모르시나요? 메일을 받은 주소를 "
    "입력하세요. 그러면 주소가 확인되고, 계정에 있던 내용은 지워지며, 비밀번호를 정하는 메일을 "
    "보내 드립니다.",
    "drop.email": "계정의 이메일 주소",
    "drop.button": "비밀번호 없이 확인",
    "drop.done": "이메일 주소가 확인되었습니다. 비밀번호를 정하는 메일을 보냈습니다.",
    "reset.title": "새 비밀번호 정하기",
    "reset.lead": "이 계정의 모든 로그인이 끝납니다.",
    "reset.button": "비밀번호 저장",
    "reset.done": "비밀번호가 바뀌었습니다. 새 비밀번호로 로그인하세요.",
    "undo.title": "계정 되찾기",
    "undo.lead": "메일을 받은 예전 이메일 주소를 입력하면 계정이 그 주소로 되돌아갑니다. 모든 "
    "로그인이 끝나고 비밀번호를 더 이상 쓸 수 없으며, 새 비밀번호를 정하는 메일을 보내 드립니다.",
    "undo.email": "계정의 예전 이메일 주소",
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
    "email_mismatch": "메일을 받은 주소가 아닙니다. 아무것도 바뀌지 않았습니다. 확인하고 다시 해 "
    "주세요.",
    "password_needed": "비밀번호를 입력하거나, 아래에서 비밀번호 없이 확인하세요.",
    "wrong_password": "비밀번호가 맞지 않습니다.",
    "email_taken": "이 주소는 이미 다른 계정이 쓰고 있습니다.",
    "too_many_attempts": "시도가 너무 많습니다. 나중에 다시 해 주세요.",
    "email_invalid": "name@example.com 같은 이메일 주소 하나를 입력하세요.",
    "password_too_short": "비밀번호가 너무 짧습니다. {least}자 이상이어야 합니다.",
    "password_too_long": "비밀번호가 너무 깁니다.",
    "password_control_character": "비밀번호에 탭 같은 제어 문자가 있습니다. 빼고 입력하세요.",
    "password_common": "너무 많은 사람이 쓰는 비밀번호입니다. 다른 것을 정하세요.",
    "password_guessable": "비밀번호가 주소나 이 서비스의 이름과 너무 비슷합니다.",
    "password_breached": "다른 서비스에서 유출된 비밀번호입니다. 다른 것을 정하세요.",
    "other": "지금은 처리할 수 없습니다. 나중에 다시 해 주세요.",
    "refused": "요청을 받아들이지 않았습니다. 아무것도 바뀌지 않았습니다.",
    "again": "양식 다시 열기",
    "to_reset": "새 비밀번호를 정하는 메일 받기",
    "not_found.title": "페이지를 찾을 수 없습니다",
    "not_found": "이 주소에는 페이지가 없습니다. 메일의 링크 전체를 열었는지 확인하세요.",
    "foreign_origin": "이 웹사이트에서 보낸 양식이 아니거나, 브라우저가 어디에서 보냈는지 알려 "
    "주지 않았습니다. 아무것도 바뀌지 않았습니다. 아래에서 계속할 수 있습니다.",
    "wrong_destination": "이 양식은 다른 페이지 안에서 쓸 수 없습니다. 아무것도 바뀌지 "
    "않았습니다. 새 창에서 여세요.",
    "https_required": "이 페이지는 암호화된 연결로만 쓸 수 있습니다. 주소가 https://로 "
    "시작해야 합니다.",
    "method_not_allowed": "이 주소는 그렇게 쓸 수 없습니다. 아무것도 바뀌지 않았습니다. 메일의 "
    "링크를 다시 여세요.",
    "unsupported_media_type": "이 페이지의 양식이 아닌 것이 전송되었습니다. 아무것도 바뀌지 "
    "않았습니다. 양식을 다시 열어 작성하세요.",
    "malformed_request": "양식이 손상되었거나 일부만 도착했습니다. 아무것도 바뀌지 않았습니다. "
    "양식을 다시 열어 작성하세요.",
    "duplicate_header": "브라우저나 중간에 있는 프로그램이 같은 것을 두 번 보냈습니다. 아무것도 "
    "바뀌지 않았습니다. 다른 브라우저나 다른 네트워크로 해 보세요.",
    "target_too_long": "주소가 너무 깁니다. 메일의 링크를 그대로 여세요.",
    "headers_too_large": "브라우저가 요청에 너무 많은 것을 함께 보냈습니다. 아무것도 바뀌지 "
    "않았습니다. 이 웹사이트의 쿠키를 지우고 다시 해 주세요.",
    "body_too_large": "양식에 적은 글이 너무 많습니다. 아무것도 바뀌지 않았습니다. 양식을 다시 "
    "열어 더 짧게 작성하세요.",
    "request_timeout": "양식이 도착하는 데 너무 오래 걸렸습니다. 아무것도 바뀌지 않았습니다. "
    "인터넷 연결을 확인하고 다시 보내세요.",
    "inactive_account": "로그인한 계정이 정지되어 있습니다. 이 서비스를 운영하는 곳에 문의하세요.",
    "internal_error": "저희 쪽에 문제가 생겼습니다. 나중에 다시 해 주세요.",
    "reference": "도움을 청할 때 이 번호를 알려 주세요:",
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
