"""Names of headers and parameters that carry credentials of LLM providers and their proxies.

A name is secret when a table here has it, or when its last word is typical of credentials and
`HARMLESS` does not have it. Only the end counts: ``x-api-key`` is a key, ``x-api-key-id`` is not.
``idempotency-key``, cursors of listings and token counts give no access: they are not redacted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import unquote

HEADERS: Mapping[str, str] = {
    "aeg-sas-key": "Azure Event Grid",
    "api-key": "Azure OpenAI, Qdrant",
    "apikey": "Kong, Supabase",
    "authentication": "custom proxies",
    "authorization": "OpenAI, Mistral, Groq, Cohere, DeepSeek, xAI, Together, OpenRouter, ...",
    "cf-access-client-secret": "Cloudflare Access",
    "cf-access-jwt-assertion": "Cloudflare Access",
    "cf-access-token": "Cloudflare Access",
    "cf-aig-authorization": "Cloudflare AI Gateway",
    "cookie": "RFC 6265",
    "cookie2": "RFC 2965",
    "dd-api-key": "Datadog",
    "dd-application-key": "Datadog",
    "dpop": "RFC 9449",
    "helicone-auth": "Helicone",
    "job-token": "GitLab",
    "kong-admin-token": "Kong",
    "ocp-apim-subscription-key": "Azure AI services, Azure API Management",
    "private-token": "GitLab",
    "proxy-authorization": "RFC 9110",
    # Browsers cannot set headers of a WebSocket: OpenAI and Kubernetes take the key as a protocol.
    "sec-websocket-protocol": "OpenAI Realtime (openai-insecure-api-key.KEY), Kubernetes",
    "set-cookie": "RFC 6265",
    "set-cookie2": "RFC 2965",
    "stripe-signature": "Stripe",
    "webhook-signature": "OpenAI webhooks, Replicate, Standard Webhooks",
    "x-access-token": "custom proxies",
    "x-acs-security-token": "Alibaba Cloud",
    "x-amz-access-token": "Amazon",
    "x-amz-security-token": "AWS Bedrock",
    "x-amzn-oidc-accesstoken": "AWS load balancers",
    "x-amzn-oidc-data": "AWS load balancers: a signed token",
    "x-anthropic-api-key": "Weaviate",
    "x-api-access-key": "Volcengine",
    "x-api-key": "Anthropic, AWS API Gateway, Exa, Stainless",
    "x-api-token": "custom proxies",
    "x-auth-key": "Cloudflare",
    "x-auth-request-access-token": "oauth2-proxy",
    "x-auth-token": "OpenStack, Huawei Cloud",
    "x-auth-user-service-key": "Cloudflare",
    "x-authorization": "custom proxies",
    "x-azure-api-key": "Weaviate",
    "x-bb-api-key": "Browserbase",
    "x-cohere-api-key": "Weaviate",
    "x-csrf-token": "web applications",
    "x-forwarded-access-token": "oauth2-proxy",
    "x-forwarded-authorization": "proxies",
    "x-functions-key": "Azure Functions",
    "x-gladia-key": "Gladia",
    "x-goog-api-key": "Google Gemini, Vertex AI",
    "x-goog-iam-authorization-token": "Google Cloud",
    "x-goog-iap-jwt-assertion": "Google Identity-Aware Proxy",
    "x-gravitee-api-key": "Gravitee",
    "x-honeycomb-team": "Honeycomb: its API key",
    "x-hub-signature": "GitHub, Meta",
    "x-huggingface-api-key": "Weaviate",
    "x-ibm-client-secret": "IBM API Connect, watsonx",
    "x-key": "Black Forest Labs",
    "x-litellm-api-key": "LiteLLM",
    "x-ms-authorization-auxiliary": "Azure",
    "x-ms-token-aad-access-token": "Azure App Service",
    "x-n8n-api-key": "n8n",
    "x-openai-api-key": "Weaviate",
    "x-portkey-api-key": "Portkey",
    "x-portkey-aws-secret-access-key": "Portkey",
    "x-portkey-aws-session-token": "Portkey",
    "x-portkey-config": "Portkey: JSON that may hold keys",
    "x-portkey-virtual-key": "Portkey",
    "x-rapidapi-key": "RapidAPI",
    "x-rapidapi-proxy-secret": "RapidAPI",
    "x-serverless-authorization": "Google Cloud Run",
    "x-subscription-token": "Brave Search",
    "x-tc-token": "Tencent Cloud",
    "x-typesense-api-key": "Typesense",
    "x-tyk-authorization": "Tyk",
    "x-vault-token": "HashiCorp Vault",
    "x-vercel-ai-gateway-api-key": "Vercel AI Gateway",
    "x-vercel-oidc-token": "Vercel",
    "x-vercel-protection-bypass": "Vercel",
    "x-watson-authorization-token": "IBM Watson",
    "x-xsrf-token": "web applications",
    "x-zumo-auth": "Azure App Service",
    "xi-api-key": "ElevenLabs",
}
"""Name of a header, as `words_of` returns it -> who uses it."""

PARAMETERS: Mapping[str, str] = {
    "access-token": "OAuth 2, Meta, Baidu Qianfan",
    "api-key": "many",
    "apikey": "many",
    "assertion": "OAuth 2 (RFC 7521)",
    "auth-code": "OAuth 2",
    "authorization-code": "OAuth 2",
    "client-assertion": "OAuth 2 (RFC 7523)",
    "client-secret": "OAuth 2",
    "code": "OAuth 2, Azure Functions",
    "code-verifier": "OAuth 2 (RFC 7636)",
    "device-code": "OAuth 2 (RFC 8628)",
    "id-token": "OpenID Connect",
    "jsessionid": "Java servlets",
    "key": "Google Gemini, Vertex AI",
    "phpsessid": "PHP",
    "refresh-token": "OAuth 2",
    "samlresponse": "SAML",
    "session": "web applications",
    "sessionid": "web applications",
    "sig": "Azure shared access signatures",
    "signature": "AWS, Google Cloud and CloudFront signed URLs",
    "subscription-key": "Azure API Management",
    "ticket": "CAS",
    "upload-id": "Google resumable uploads: who has it may write",
    "user-code": "OAuth 2 (RFC 8628)",
    "x-amz-credential": "AWS signed URLs",
    "x-amz-security-token": "AWS signed URLs",
    "x-amz-signature": "AWS signed URLs",
    "x-goog-credential": "Google Cloud signed URLs",
    "x-goog-signature": "Google Cloud signed URLs",
}
"""Name of a parameter of a query or fragment, in addition to those of headers -> who uses it."""

HARMLESS = frozenset(
    {
        "access-control-allow-credentials",
        # Keys that give no access.
        *("cache-key", "foreign-key", "group-key", "i18n-key", "idempotence-key"),
        *("idempotency-key", "index-key", "object-key", "partition-key", "public-key"),
        *("publishable-key", "row-key", "routing-key", "sort-key", "surrogate-key"),
        *("translation-key", "websocket-key"),
        # Positions in a listing, token counts, tokens of a model's vocabulary.
        *("bos-token", "continuation-token", "cost-per-token", "eos-token", "first-token"),
        *("last-token", "max-token", "min-token", "next-token", "page-token", "pad-token"),
        *("per-token", "resume-token", "skip-token", "start-token", "stop-token", "sync-token"),
        *("time-per-token", "time-to-first-token", "continuationtoken", "maxtoken", "nexttoken"),
        *("nextpagetoken", "pagetoken", "skiptoken"),
    }
)
"""Endings, in whole words, of names that look secret and are not."""

_LAST_WORDS = frozenset(
    {
        *("auth", "authentication", "bearer", "jwt", "key", "oauth", "otp", "pass", "pat", "pwd"),
        *("sas", "sig", "totp"),
    }
)
"""Whole words with which names of secrets end."""

_ENDINGS = (
    *("token", "secret", "signature", "password", "passwd", "passphrase", "passcode"),
    *("authorization", "credential", "cookie", "assertion"),
    *("secrets", "signatures", "passwords", "credentials", "cookies", "apikeys"),
    *("accesskey", "accountkey", "adminkey", "apikey", "appkey", "authkey", "clientkey"),
    *("consumerkey", "developerkey", "encryptionkey", "functionskey", "licensekey", "masterkey"),
    *("privatekey", "secretkey", "servicekey", "sessionkey", "sharedkey", "signingkey"),
    *("storagekey", "subscriptionkey", "userkey", "virtualkey", "writekey"),
)
"""Endings of names of secrets, also when joined to the word before: apiKey."""

MAX_NAME_CHARACTERS = 200
"""Longer names count as secret: real ones are shorter, and checking them would take time."""

_WORD = re.compile("[a-z0-9]+")


def words_of(name: str) -> str:
    """Return a name in lower case, its words joined by hyphens, without trailing numbers.

    Percent-escapes are decoded, nested ones too; blanks, brackets and control characters only
    separate words: some servers read ``%256bey``, `` key`` and ``key[]`` all as ``key``. The prefix
    ``HTTP_`` of headers in WSGI is removed.
    """
    for _ in range(5):
        before, name = name, unquote(name)
        if name == before:
            break
    words = _WORD.findall(name.lower())
    while len(words) > 1 and words[-1].isdigit():
        words.pop()
    return "-".join(words).removeprefix("http-")


def is_secret_header(name: str) -> bool:
    """Tell whether a header of that name carries credentials."""
    return len(name) > MAX_NAME_CHARACTERS or _is_secret(name, _HEADERS)


def is_secret_parameter(name: str) -> bool:
    """Tell whether a parameter of that name carries credentials."""
    return len(name) > MAX_NAME_CHARACTERS or _is_secret(name, _PARAMETERS)


# Without hyphens, so that auth_code, auth-code and authCode are the same.
_HEADERS = frozenset(name.replace("-", "") for name in HEADERS)
_PARAMETERS = _HEADERS | {name.replace("-", "") for name in PARAMETERS}
_HARMLESS_ENDINGS = tuple(f"-{ending}" for ending in HARMLESS)


@lru_cache(maxsize=4096)
def _is_secret(name: str, table: frozenset[str]) -> bool:
    words = words_of(name)
    if words.replace("-", "") in table:
        return True
    if f"-{words}".endswith(_HARMLESS_ENDINGS):
        return False
    last = words.rpartition("-")[2].rstrip("0123456789")
    return last in _LAST_WORDS or last.endswith(_ENDINGS)
