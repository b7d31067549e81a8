"""The texts of the pages in each language."""

from collections.abc import Mapping

Texts = Mapping[str, str]

ENGLISH: Texts = {
    "email": "E-mail address",
    "password": "Password",
    "new_password": "New password",
    "at_least": "At least {min_length} characters. A sentence that only you know works well.",
    "another": "Request a new link",
    "error": "That did not work",
    "confirm.title": "Confirm your e-mail address",
    "confirm.lead": "Enter your password to show that the account is yours. Leave the field empty "
    "if you are logged in here.",
    "confirm.button": "Confirm",
    "confirm.done": "Your e-mail address is confirmed.",
    "without_password.lead": "You did not choose a password here, or do not know it? Enter the "
    "address that the e-mail was sent to. Your address is then confirmed, the name and password of "
    "the account are removed, all devices are logged out, and you receive an e-mail to choose a "
    "new password.",
    "without_password.email": "E-mail address of the account",
    "without_password.button": "Confirm without a password",
    "without_password.done": "Your e-mail address is confirmed. An e-mail to choose a password is "
    "on its way.",
    "reset.title": "Choose a new password",
    "reset.lead": "All devices that are logged in to the account are logged out.",
    "reset.button": "Save password",
    "reset.done": "Your password has been changed. Log in with the new password.",
    "undo.title": "Recover your account",
    "undo.lead": "To recover your account, enter its previous e-mail address, which the e-mail was "
    "sent to. All devices are logged out, the current password stops working, and you receive an "
    "e-mail to choose a new one.",
    "undo.email": "Previous e-mail address of your account",
    "undo.button": "Recover account",
    "undo.done": "Your account has its previous e-mail address again. An e-mail to choose a "
    "password is on its way.",
    "disown.title": "End a login that was not yours",
    "disown.lead": "The device that the e-mail tells of is logged out. Your other devices stay "
    "logged in.",
    "disown.button": "End this login",
    "disown.done": "This login has ended. The attacker may know your password, so choose a new one "
    "now: all devices are then logged out, and all access tokens stop working.",
    "invitation.title": "Accept your invitation",
    "invitation.lead": "An account was created for you. Choose a password for it.",
    "invitation.button": "Accept",
    "invitation.done": "Welcome. Log in with your e-mail address and your password.",
    "forgot.title": "Forgot your password?",
    "forgot.lead": "You receive an e-mail with a link to choose a new password.",
    "forgot.button": "Send e-mail",
    "forgot.done": "If there is an account with this address, an e-mail is on its way.",
    "invalid_one_time_secret": "This link is no longer valid: it was already used, has expired, or "
    "was replaced by a newer one.",
    "proof_required": "Log in to the account that requested this e-mail, or enter its password.",
    "password_needed": "Enter the password, or confirm without a password below.",
    "email_mismatch": "The e-mail was not sent to this address. Nothing was changed. Check the "
    "address and try again.",
    "wrong_password": "The password is wrong.",
    "email_taken": "Another account uses this address now.",
    "too_many_attempts": "Too many attempts. Try again later.",
    "email_invalid": "Enter one e-mail address, such as name@example.com.",
    "password_too_short": "The password is too short. It must have at least {min_length} "
    "characters.",
    "password_too_long": "The password is too long.",
    "password_control_character": "The password contains a control character, such as a tab. "
    "Enter it without that character.",
    "password_common": "This password is too common. Choose another one.",
    "password_guessable": "The password is too similar to your address or to the name of this "
    "service.",
    "password_breached": "This password appeared in a data breach of another service. Choose "
    "another one.",
    "other": "This is not possible at the moment. Try again later.",
    "refused": "The request was not accepted. Nothing was changed.",
    "again": "Open the form again",
    "to_reset": "Request an e-mail to choose a new password",
    "not_found.title": "Page not found",
    "not_found": "There is no page at this address. Check that you opened the complete link from "
    "the e-mail.",
    "foreign_origin": "The form was not sent from this website, or your browser does not say where "
    "it was sent from. Nothing was changed. You can continue with the link below.",
    "wrong_destination": "This form cannot be used inside another page. Nothing was changed. Open "
    "it in its own window.",
    "https_required": "This page requires an encrypted connection. Its address must begin with "
    "https://.",
    "method_not_allowed": "This address cannot be used in this way. Nothing was changed. Open the "
    "link in the e-mail again.",
    "unsupported_media_type": "The data that was sent does not come from the form on this page. "
    "Nothing was changed. Open the form again and fill it in.",
    "malformed_request": "The form arrived damaged or incomplete. Nothing was changed. Open the "
    "form again and fill it in.",
    "duplicate_header": "Your browser, or a program between it and this website, sent the same "
    "information twice. Nothing was changed. Try another browser or another network.",
    "target_too_long": "The address is too long. Open the link in the e-mail without changing it.",
    "headers_too_large": "Your browser sent too much data with the request. Nothing was changed. "
    "Delete the cookies of this website and try again.",
    "body_too_large": "The form contains too much text. Nothing was changed. Open the form again "
    "and enter less text.",
    "request_timeout": "The form took too long to arrive. Nothing was changed. Check your "
    "connection and send the form again.",
    "inactive_account": "The account that you are logged in to is deactivated. Contact the "
    "operator of this service.",
    "internal_error": "An error occurred on the server. Try again later.",
    "reference": "If you contact support, include this number:",
}
KOREAN: Texts = {
    "email": "이메일 주소",
    "password": "비밀번호",
    "new_password": "새 비밀번호",
    "at_least": "{min_length}자 이상이어야 합니다. 본인만 아는 문장을 쓰면 좋습니다.",
    "another": "링크 다시 받기",
    "error": "처리하지 못했습니다",
    "confirm.title": "이메일 주소 확인",
    "confirm.lead": "본인의 계정인지 확인하기 위해 비밀번호를 입력하세요. 이 브라우저에서 로그인한 "
    "상태라면 비워 두셔도 됩니다.",
    "confirm.button": "확인",
    "confirm.done": "이메일 주소가 확인되었습니다.",
    "without_password.lead": "여기에서 비밀번호를 정한 적이 없거나 비밀번호를 모르시나요? 메일을 "
    "받은 주소를 입력하세요. 주소가 확인되고, 계정의 이름과 비밀번호가 삭제되며, 모든 기기에서 "
    "로그아웃됩니다. 새 비밀번호를 정할 수 있는 메일을 보내 드립니다.",
    "without_password.email": "계정의 이메일 주소",
    "without_password.button": "비밀번호 없이 확인",
    "without_password.done": "이메일 주소가 확인되었습니다. 비밀번호를 정할 수 있는 메일을 "
    "보냈습니다.",
    "reset.title": "새 비밀번호 정하기",
    "reset.lead": "이 계정에 로그인한 모든 기기에서 로그아웃됩니다.",
    "reset.button": "비밀번호 저장",
    "reset.done": "비밀번호가 변경되었습니다. 새 비밀번호로 로그인하세요.",
    "undo.title": "계정 되찾기",
    "undo.lead": "계정을 되찾으려면 메일을 받은 이전 이메일 주소를 입력하세요. 모든 기기에서 "
    "로그아웃되고, 현재 비밀번호는 더 이상 사용할 수 없습니다. 새 비밀번호를 정할 수 있는 메일을 "
    "보내 드립니다.",
    "undo.email": "계정의 이전 이메일 주소",
    "undo.button": "계정 되찾기",
    "undo.done": "계정의 이메일 주소가 이전 주소로 돌아왔습니다. 비밀번호를 정할 수 있는 메일을 "
    "보냈습니다.",
    "disown.title": "본인이 하지 않은 로그인 종료",
    "disown.lead": "메일에서 알려 드린 기기에서 로그아웃됩니다. 다른 기기의 로그인은 유지됩니다.",
    "disown.button": "이 로그인 종료",
    "disown.done": "이 로그인이 종료되었습니다. 공격자가 비밀번호를 알고 있을 수 있으니 지금 새 "
    "비밀번호를 정하세요. 그러면 모든 기기에서 로그아웃되고 모든 액세스 토큰이 무효화됩니다.",
    "invitation.title": "초대 수락",
    "invitation.lead": "회원님의 계정이 만들어졌습니다. 비밀번호를 정해 주세요.",
    "invitation.button": "수락",
    "invitation.done": "환영합니다. 이메일 주소와 비밀번호로 로그인하세요.",
    "forgot.title": "비밀번호를 잊으셨나요?",
    "forgot.lead": "새 비밀번호를 정할 수 있는 링크를 메일로 보내 드립니다.",
    "forgot.button": "메일 보내기",
    "forgot.done": "이 주소로 만든 계정이 있으면 곧 메일이 도착합니다.",
    "invalid_one_time_secret": "이 링크는 더 이상 유효하지 않습니다. 이미 사용되었거나, "
    "만료되었거나, 더 새로운 링크로 대체되었습니다.",
    "proof_required": "이 메일을 요청한 계정에 로그인하거나 그 계정의 비밀번호를 입력하세요.",
    "password_needed": "비밀번호를 입력하거나, 아래에서 비밀번호 없이 확인하세요.",
    "email_mismatch": "메일을 받은 주소가 아닙니다. 아무것도 변경되지 않았습니다. 주소를 확인하고 "
    "다시 시도해 주세요.",
    "wrong_password": "비밀번호가 맞지 않습니다.",
    "email_taken": "현재 다른 계정이 이 주소를 사용하고 있습니다.",
    "too_many_attempts": "시도 횟수가 너무 많습니다. 나중에 다시 시도해 주세요.",
    "email_invalid": "name@example.com과 같은 이메일 주소 하나를 입력하세요.",
    "password_too_short": "비밀번호가 너무 짧습니다. {min_length}자 이상이어야 합니다.",
    "password_too_long": "비밀번호가 너무 깁니다.",
    "password_control_character": "비밀번호에 탭과 같은 제어 문자가 들어 있습니다. 제어 문자 없이 "
    "입력하세요.",
    "password_common": "너무 흔한 비밀번호입니다. 다른 비밀번호를 정하세요.",
    "password_guessable": "비밀번호가 이메일 주소나 이 서비스의 이름과 너무 비슷합니다.",
    "password_breached": "다른 서비스에서 유출된 적이 있는 비밀번호입니다. 다른 비밀번호를 "
    "정하세요.",
    "other": "지금은 처리할 수 없습니다. 나중에 다시 시도해 주세요.",
    "refused": "요청이 거부되었습니다. 아무것도 변경되지 않았습니다.",
    "again": "양식 다시 열기",
    "to_reset": "새 비밀번호를 정할 수 있는 메일 받기",
    "not_found.title": "페이지를 찾을 수 없습니다",
    "not_found": "이 주소에는 페이지가 없습니다. 메일에 있는 링크 전체를 열었는지 확인하세요.",
    "foreign_origin": "이 웹사이트에서 보낸 양식이 아니거나, 브라우저가 양식의 출처를 알려 주지 "
    "않았습니다. 아무것도 변경되지 않았습니다. 아래 링크에서 계속할 수 있습니다.",
    "wrong_destination": "이 양식은 다른 페이지 안에서 사용할 수 없습니다. 아무것도 변경되지 "
    "않았습니다. 새 창에서 여세요.",
    "https_required": "이 페이지는 암호화된 연결에서만 사용할 수 있습니다. 주소가 https://로 "
    "시작해야 합니다.",
    "method_not_allowed": "이 주소는 이런 방식으로 사용할 수 없습니다. 아무것도 변경되지 "
    "않았습니다. 메일에 있는 링크를 다시 여세요.",
    "unsupported_media_type": "이 페이지의 양식이 아닌 데이터가 전송되었습니다. 아무것도 변경되지 "
    "않았습니다. 양식을 다시 열어 작성하세요.",
    "malformed_request": "양식이 손상되었거나 일부만 도착했습니다. 아무것도 변경되지 않았습니다. "
    "양식을 다시 열어 작성하세요.",
    "duplicate_header": "브라우저나 중간에 있는 프로그램이 같은 정보를 두 번 보냈습니다. 아무것도 "
    "변경되지 않았습니다. 다른 브라우저나 다른 네트워크에서 시도해 주세요.",
    "target_too_long": "주소가 너무 깁니다. 메일에 있는 링크를 수정하지 말고 그대로 여세요.",
    "headers_too_large": "브라우저가 요청과 함께 너무 많은 데이터를 보냈습니다. 아무것도 변경되지 "
    "않았습니다. 이 웹사이트의 쿠키를 삭제하고 다시 시도해 주세요.",
    "body_too_large": "양식에 입력한 내용이 너무 많습니다. 아무것도 변경되지 않았습니다. 양식을 "
    "다시 열어 더 짧게 작성하세요.",
    "request_timeout": "양식이 도착하는 데 시간이 너무 오래 걸렸습니다. 아무것도 변경되지 "
    "않았습니다. 인터넷 연결을 확인하고 다시 보내세요.",
    "inactive_account": "로그인한 계정이 비활성화되어 있습니다. 이 서비스의 운영자에게 문의하세요.",
    "internal_error": "서버에서 오류가 발생했습니다. 나중에 다시 시도해 주세요.",
    "reference": "문의하실 때 이 번호를 알려 주세요:",
}
LANGUAGES: Mapping[str, Texts] = {"en": ENGLISH, "ko": KOREAN}


def language_of(accept_language: str | None, *, fallback: str) -> str:
    """The language that a client prefers (RFC 9110, section 12.5.4).

    `accept_language` is the header Accept-Language. The result is `fallback` if the header names no
    available language, or English if `fallback` is not available either.
    """
    found: list[tuple[float, str]] = []
    for item in (accept_language or "")[:1000].split(","):
        tag, _, weight = item.strip().partition(";")
        name = tag.strip().lower().partition("-")[0]
        if name in LANGUAGES:
            try:
                quality = float(weight.strip().removeprefix("q=") or 1)
            except ValueError:
                continue
            if quality > 0:
                found.append((quality, name))
    default = fallback if fallback in LANGUAGES else "en"
    # Among equal qualities, `max` returns the first.
    return max(found, key=lambda pair: pair[0])[1] if found else default
