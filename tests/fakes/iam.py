"""The fake AWS IAM: what the policies of a user or role say of an action. XML, as STS has it."""

import re
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from fakes.sts import StsError, as_xml, refusal, signer
from fakes.world import ACCOUNT, random_id

XMLNS = "https://iam.amazonaws.com/doc/2010-05-08/"
REGION = "us-east-1"  # the one of all regions of the partition
PRINCIPAL = rf"arn:aws:iam::{ACCOUNT}:(?:user|role)/([\w+=,.@/-]+)"


class Iam:
    """`settings`: the users and roles that exist, the actions that their policies allow, and those
    that they deny."""

    service = "iam"

    def __init__(self, world, callers):
        self.world, self.callers = world, callers
        self.reset()

    def reset(self):
        self.settings = {"principals": ["dekhand"], "allowed": [], "denied": []}

    def environment(self):
        return {}

    def answer(self, call):
        try:
            form = dict(parse_qsl(call.body.decode("utf-8", "replace"), True))
            if form.get("Version") != "2010-05-08":
                raise StsError("InvalidAction", f"Could not find operation {call.operation}")
            key = signer(self.callers, call, "iam", REGION)
            call.who = key.arn
            return self._simulate(key, form)
        except StsError as error:
            return refusal(error.code, str(error), error.status)

    def throttled(self, _call):
        return refusal("Throttling", "Rate exceeded")

    def _simulate(self, key, form):
        source, action = form.get("PolicySourceArn", ""), form.get("ActionNames.member.1", "")
        resource = form.get("ResourceArns.member.1", "*")
        if self.world.is_denied("iam:SimulatePrincipalPolicy", key.id):
            raise StsError("AccessDenied", f"User: {key.arn} is not authorized to perform: "
                           f"iam:SimulatePrincipalPolicy on resource: {source}", 403)
        found = re.fullmatch(PRINCIPAL, source)
        if found is None or not re.fullmatch(r"\w+:\w+", action):
            raise StsError("InvalidInput", f"Invalid Entity Arn: {source} or action: {action}")
        if found[1] not in self.settings["principals"]:
            raise StsError("NoSuchEntity", f"The entity {source} cannot be found.", 404)
        return self._evaluated(action, resource)

    def _evaluated(self, action, resource):
        denied, allowed = (action in self.settings[name] for name in ("denied", "allowed"))
        word = "explicitDeny" if denied else "allowed" if allowed else "implicitDeny"
        matched = "" if word == "implicitDeny" else (
            "<member><SourcePolicyId>dekhand</SourcePolicyId><SourcePolicyType>IAM Policy"
            "</SourcePolicyType></member>")
        return as_xml(
            f'<SimulatePrincipalPolicyResponse xmlns="{XMLNS}"><SimulatePrincipalPolicyResult>'
            "<IsTruncated>false</IsTruncated><EvaluationResults><member>"
            f"<MatchedStatements>{matched}</MatchedStatements><MissingContextValues/>"
            f"<EvalResourceName>{escape(resource)}</EvalResourceName>"
            f"<ResourceSpecificResults><member><EvalResourceName>{escape(resource)}"
            f"</EvalResourceName><EvalResourceDecision>{word}</EvalResourceDecision>"
            f"<MatchedStatements>{matched}</MatchedStatements><MissingContextValues/></member>"
            f"</ResourceSpecificResults><EvalDecision>{word}</EvalDecision>"
            f"<EvalActionName>{escape(action)}</EvalActionName></member></EvaluationResults>"
            "</SimulatePrincipalPolicyResult><ResponseMetadata>"
            f"<RequestId>{random_id()}</RequestId></ResponseMetadata>"
            "</SimulatePrincipalPolicyResponse>")
