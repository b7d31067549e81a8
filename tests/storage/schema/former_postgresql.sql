CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.email_tokens (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    purpose character varying(20) NOT NULL,
    secret_hash bytea NOT NULL,
    email character varying(254) NOT NULL,
    email_given character varying(254) NOT NULL,
    password_version integer NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL
);
CREATE TABLE public.events (
    id uuid NOT NULL,
    at timestamp with time zone NOT NULL,
    type character varying(40) NOT NULL,
    outcome character varying(10) NOT NULL,
    user_id uuid,
    session_id uuid,
    strategy character varying(64),
    request_id character varying(32),
    ip character varying(45),
    user_agent character varying(255),
    detail json NOT NULL,
    network character varying(45),
    actor_id uuid
);
CREATE TABLE public.outbox (
    id uuid NOT NULL,
    kind character varying(20) NOT NULL,
    purpose character varying(40) NOT NULL,
    user_id uuid,
    payload bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    due_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    attempts integer NOT NULL,
    error character varying(200),
    failed_at timestamp with time zone,
    receiver character varying(64) DEFAULT ''::character varying NOT NULL
);
CREATE TABLE public.refresh_families (
    session_id uuid NOT NULL,
    family_hash bytea NOT NULL,
    current_hash bytea NOT NULL,
    previous_hash bytea,
    nonce bytea,
    rotated_at timestamp with time zone
);
CREATE TABLE public.sessions (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    kind character varying(16) NOT NULL,
    secret_hash bytea,
    name character varying(100),
    scopes json NOT NULL,
    created_at timestamp with time zone NOT NULL,
    last_seen_at timestamp with time zone NOT NULL,
    idle_expires_at timestamp with time zone,
    expires_at timestamp with time zone NOT NULL,
    auth_time timestamp with time zone NOT NULL,
    amr json NOT NULL,
    ip character varying(45),
    user_agent character varying(255),
    data json NOT NULL,
    remembered boolean DEFAULT false NOT NULL,
    previous_secret_hash bytea,
    revoked_jwts json
);
CREATE TABLE public.signing_keys (
    kid character varying(43) NOT NULL,
    algorithm character varying(10) NOT NULL,
    state character varying(10) NOT NULL,
    public_jwk json NOT NULL,
    private_key bytea,
    created_at timestamp with time zone NOT NULL,
    activated_at timestamp with time zone,
    retired_at timestamp with time zone,
    published_until timestamp with time zone
);
CREATE TABLE public.users (
    id uuid NOT NULL,
    email character varying(254) NOT NULL,
    email_given character varying(254) NOT NULL,
    name character varying(200),
    password_hash character varying(255),
    is_active boolean NOT NULL,
    is_superuser boolean NOT NULL,
    email_confirmed_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    locale character varying(35),
    roles character varying(1024) DEFAULT ''::character varying NOT NULL,
    password_version integer DEFAULT 0 NOT NULL
);
INSERT INTO public.alembic_version VALUES ('0009');
INSERT INTO public.email_tokens VALUES ('01a22314-3a2c-7c1a-9c71-18878db1859d', '01a22314-3844-7362-862e-7d406caada15', 'reset', '\x2b6eb7fcbc03058cb17b9055000984ef5da44f27b697b9517ec93b82a29d1af6', 'alice@example.com', 'Alice@Example.com', 0, '2026-11-28 16:54:17.900702+00', '2026-11-28 17:24:17.900702+00');
INSERT INTO public.email_tokens VALUES ('01a22314-3acc-7634-8470-a432c9a00619', '01a22314-3ac7-7851-b490-d8c602bdd27f', 'invitation', '\xdb736af3f9f2597e692df93939c146bac2452efa85db6847af71bece77358edb', 'carol@example.com', 'carol@example.com', 0, '2026-11-28 16:54:18.060007+00', '2026-12-05 16:54:18.060007+00');
INSERT INTO public.events VALUES ('01a22314-384c-76cb-83bb-43baab51d5de', '2026-11-28 16:54:17.420721+00', 'account_registered', 'success', '01a22314-3844-7362-862e-7d406caada15', NULL, NULL, NULL, NULL, NULL, '{}', 'unknown', NULL);
INSERT INTO public.events VALUES ('01a22314-388b-756b-9184-d5dba3438804', '2026-11-28 16:54:17.483053+00', 'account_registered', 'success', '01a22314-3887-798d-a3b0-e160c07bf03b', NULL, NULL, NULL, NULL, NULL, '{}', 'unknown', NULL);
INSERT INTO public.events VALUES ('01a22314-38e4-7018-b5d9-cac1069f59a8', '2026-11-28 16:54:17.572845+00', 'login', 'success', '01a22314-3844-7362-862e-7d406caada15', '01a22314-38d8-7a05-95f4-1d2b3fd26bdd', 'token', '8e12d14169087b390000a8848cb6516d', '127.0.0.1', 'python-httpx/0.28.1', '{}', '127.0.0.1', NULL);
INSERT INTO public.events VALUES ('01a22314-3937-7c67-bd23-0f29c373d327', '2026-11-28 16:54:17.655472+00', 'login', 'success', '01a22314-3887-798d-a3b0-e160c07bf03b', '01a22314-3933-767e-86e5-f9d66e38a0cf', 'token', '8e12d14169087b390000a8848cb6516e', '127.0.0.1', 'python-httpx/0.28.1', '{}', '127.0.0.1', NULL);
INSERT INTO public.events VALUES ('01a22314-3991-7a60-acd0-530b6c1f41d8', '2026-11-28 16:54:17.745504+00', 'login', 'success', '01a22314-3844-7362-862e-7d406caada15', '01a22314-398b-7acc-9524-de1e378578d9', 'jwt', '8e12d14169087b390000a8848cb6516f', '127.0.0.1', 'python-httpx/0.28.1', '{}', '127.0.0.1', NULL);
INSERT INTO public.events VALUES ('01a22314-39a1-79a8-b2de-1ac032f290dc', '2026-11-28 16:54:17.761171+00', 'token_created', 'success', '01a22314-3844-7362-862e-7d406caada15', '01a22314-399c-76db-bc04-eae626b25161', 'jwt', '8e12d14169087b390000a8848cb65170', '127.0.0.1', 'python-httpx/0.28.1', '{}', '127.0.0.1', NULL);
INSERT INTO public.events VALUES ('01a22314-3a15-7b49-b810-a4a776f5efcc', '2026-11-28 16:54:17.877576+00', 'login', 'success', '01a22314-3844-7362-862e-7d406caada15', '01a22314-3a10-7302-b998-7d14f8e69725', 'session', '8e12d14169087b390000a8848cb65171', '127.0.0.1', 'python-httpx/0.28.1', '{}', '127.0.0.1', NULL);
INSERT INTO public.events VALUES ('01a22314-3a31-7e87-bfc5-5c77d28196f9', '2026-11-28 16:54:17.905574+00', 'password_reset_requested', 'success', '01a22314-3844-7362-862e-7d406caada15', NULL, NULL, '8e12d14169087b390000a8848cb65172', '127.0.0.1', 'python-httpx/0.28.1', '{}', '127.0.0.1', NULL);
INSERT INTO public.events VALUES ('01a22314-3ac0-7733-87e1-88d13bc10bde', '2026-11-28 16:54:18.048382+00', 'login', 'success', '01a22314-3887-798d-a3b0-e160c07bf03b', '01a22314-3abb-76d5-b598-bc5f4b7a8065', 'jwt', '8e12d14169087b390000a8848cb65173', '127.0.0.1', 'python-httpx/0.28.1', '{}', '127.0.0.1', NULL);
INSERT INTO public.events VALUES ('01a22314-3acd-7c2a-9de2-1490a1a58958', '2026-11-28 16:54:18.061672+00', 'account_invited', 'success', '01a22314-3ac7-7851-b490-d8c602bdd27f', NULL, NULL, '8e12d14169087b390000a8848cb65174', '127.0.0.1', 'python-httpx/0.28.1', '{}', '127.0.0.1', '01a22314-3887-798d-a3b0-e160c07bf03b');
INSERT INTO public.outbox VALUES ('01a22314-3acd-7a2d-8c49-ab2d082543a6', 'mail', 'invitation', '01a22314-3ac7-7851-b490-d8c602bdd27f', '\x9c19e62f3a93ee0dd4777d9f93ab3e7106b3959de068decb325aa4c72e6cee61dcceed17e81245fb5e135e01b978453a939659aad621ba8e1ea9208539586dc48723d7c8154c5da5b6a904d120e67e92134e09bd90d3c16c4548fdc6737da4745c71917334197c53aec2b8a15c9a71c6e7f26841a7a46b4b70b1d985d814d71cc4e777a69efa25b65edea6f283d4927b792c646875d48728fe8b819f56f4970572bceb76ce31f9ea50b0853696b12b6c4661a1691afd840e06bf6fdd1cb226c1d1d1adb3e6441d819a2ee63a078058f6734022432aea505beda13294af143e901d99d18524c8cb62e1fd481afe25e07a0f12e0b01a1aed686c0ac83cfcee072f4ef5c16dfcb677c2c612', '2026-11-28 16:54:18.061056+00', '2026-11-28 16:55:03.062796+00', '2026-11-30 16:54:18.061056+00', 1, NULL, NULL, '');
INSERT INTO public.refresh_families VALUES ('01a22314-398b-7acc-9524-de1e378578d9', '\x255809382cdcf8c783724ae6ccd87c88870b16a68082d1961026aed2f8dc71fe', '\x613bb7df6a46725b8c862f658115c6daa81685c5417961783852d239addb111c', NULL, NULL, NULL);
INSERT INTO public.refresh_families VALUES ('01a22314-3abb-76d5-b598-bc5f4b7a8065', '\xbb3780ba4da07dc01ff11ac1384ed086426d349a71be0b4587a03483617614c4', '\x9b002fc0f5ec30656e7f775c62338ca3699c6a908d18da150ab21bbfc7214b38', NULL, NULL, NULL);
INSERT INTO public.sessions VALUES ('01a22314-38d8-7a05-95f4-1d2b3fd26bdd', '01a22314-3844-7362-862e-7d406caada15', 'token', '\x676e44016ce3524166851bc099783c6a9e3ffe0f64f9e1cd8e5e76b93029b801', NULL, 'null', '2026-11-28 16:54:17.56011+00', '2026-11-28 16:54:17.56011+00', NULL, '2026-12-28 16:54:17.56011+00', '2026-11-28 16:54:17.56011+00', '["pwd"]', '127.0.0.1', 'python-httpx/0.28.1', '{}', false, NULL, NULL);
INSERT INTO public.sessions VALUES ('01a22314-3933-767e-86e5-f9d66e38a0cf', '01a22314-3887-798d-a3b0-e160c07bf03b', 'token', '\x217a279b7bf3b85430eaaf3f9a569fc488301d06170067eb5da13d678a917614', NULL, 'null', '2026-11-28 16:54:17.651083+00', '2026-11-28 16:54:17.651083+00', NULL, '2026-12-28 16:54:17.651083+00', '2026-11-28 16:54:17.651083+00', '["pwd"]', '127.0.0.1', 'python-httpx/0.28.1', '{}', false, NULL, NULL);
INSERT INTO public.sessions VALUES ('01a22314-398b-7acc-9524-de1e378578d9', '01a22314-3844-7362-862e-7d406caada15', 'jwt', NULL, NULL, 'null', '2026-11-28 16:54:17.739348+00', '2026-11-28 16:54:17.739348+00', '2026-12-12 16:54:17.739348+00', '2027-02-26 16:54:17.739348+00', '2026-11-28 16:54:17.739348+00', '["pwd"]', '127.0.0.1', 'python-httpx/0.28.1', '{}', false, NULL, NULL);
INSERT INTO public.sessions VALUES ('01a22314-399c-76db-bc04-eae626b25161', '01a22314-3844-7362-862e-7d406caada15', 'token', '\xd2ab05be56d4832f6cebc536722882fe13c40d394cdaac51f72c5edbf0a97c61', 'deploy', '[]', '2026-11-28 16:54:17.756362+00', '2026-11-28 16:54:17.756362+00', NULL, '2027-02-26 16:54:17.756362+00', '2026-11-28 16:54:17.739348+00', '[]', '127.0.0.1', 'python-httpx/0.28.1', '{}', false, NULL, NULL);
INSERT INTO public.sessions VALUES ('01a22314-3a10-7302-b998-7d14f8e69725', '01a22314-3844-7362-862e-7d406caada15', 'session', '\x2a497b03fc075c883b4f9ae95fc401bf1276ad2f05a5d79cb6694a7327ecabb0', NULL, 'null', '2026-11-28 16:54:17.871947+00', '2026-11-28 16:54:17.871947+00', '2026-11-29 16:54:17.871947+00', '2026-12-05 16:54:17.871947+00', '2026-11-28 16:54:17.871947+00', '["pwd"]', '127.0.0.1', 'python-httpx/0.28.1', '{}', false, NULL, NULL);
INSERT INTO public.sessions VALUES ('01a22314-3abb-76d5-b598-bc5f4b7a8065', '01a22314-3887-798d-a3b0-e160c07bf03b', 'jwt', NULL, NULL, 'null', '2026-11-28 16:54:18.042801+00', '2026-11-28 16:54:18.042801+00', '2026-12-12 16:54:18.042801+00', '2027-02-26 16:54:18.042801+00', '2026-11-28 16:54:18.042801+00', '["pwd"]', '127.0.0.1', 'python-httpx/0.28.1', '{}', false, NULL, NULL);
INSERT INTO public.signing_keys VALUES ('kC4HupMhbpt_r90vy0ECGTr5TA-A6GN8e03-bVv83hA', 'ES256', 'active', '{"kty": "EC", "crv": "P-256", "x": "2JTZtgqLifdODgF0o3V3sGwEaRqTp1TV5k_hsSyV2-A", "y": "PWhwJEQ7FMqF9G4OviauH4g0sVLHLNLXXQx2rGvPK5E", "kid": "kC4HupMhbpt_r90vy0ECGTr5TA-A6GN8e03-bVv83hA", "alg": "ES256", "use": "sig"}', '\x451930766b789066de7334476a9815cb3fc256c0572ef93d1a19a526aec900aefcce3ec56e26f258d5ebfd05504cfd2ccbf345f35b30f0acc9d6f8b2db44c2199bf3196299c13d218674459afc240c7de728fbf37cf724bccd8072d17194cfb13103870b1b87052248d7dec75733ed7f9d4acc4dcf4e48e379edfd200ed36d0a6ad53516e077192e3d350f65c7e331e7241915eed72ab88998034c902ece1f080fec6dcd8f04', '2026-11-28 16:54:17.185655+00', '2026-11-28 16:54:17.185655+00', NULL, NULL);
INSERT INTO public.signing_keys VALUES ('GxKXCHZhabGU-2LWLp5W_24o8K_zAKGphaUtZHFXMvc', 'ES256', 'next', '{"kty": "EC", "crv": "P-256", "x": "CC-UU3zKi84RDXlFNIs34scxQ48Kmhx2AKtUmFupoq4", "y": "G4JlCfIssTe5XLaI1PBZj3W_4MnJnjjXfXnjiaK5mAQ", "kid": "GxKXCHZhabGU-2LWLp5W_24o8K_zAKGphaUtZHFXMvc", "alg": "ES256", "use": "sig"}', '\x9beb63ec5cd7bd7a087d8602f23a4556a458307465fb54ad14516a8e6de6fc26e7375c1aad928d27197981796af00fb660d24ba4c77d3fea3f1102d29ae66736882a7051df7d76d3938f2ac3f99c9eae063153047aeca4d8a436011a8f9af8aa2a57b54fc65995842d41a78273fda73d5d8309664b6fa5813ce3cbe38b5ae36b4ae381fc43ff7ecb19cb25e48e9d300dcc5bd9f142cc0f64c1c88a979dc256209bc3e178c4c1', '2026-11-28 16:54:17.186416+00', NULL, NULL, NULL);
INSERT INTO public.users VALUES ('01a22314-3844-7362-862e-7d406caada15', 'alice@example.com', 'Alice@Example.com', 'Älice', '$argon2id$v=19$m=19456,t=2,p=1$klKqVSqFsPYeg7C2dg5hbA$jMaNu3BNAIqHkfA9UWPebyrvXKzW+GgA4luvfLZd0Rg', true, false, NULL, '2026-11-28 16:54:17.412756+00', '2026-11-28 16:54:17.412756+00', NULL, '', 0);
INSERT INTO public.users VALUES ('01a22314-3887-798d-a3b0-e160c07bf03b', 'bob@example.com', 'bob@example.com', NULL, '$argon2id$v=19$m=19456,t=2,p=1$MkaI8b5XirH2nvM+5xzjHA$CvtlVhxGQIqpuVtVvYP07peGfFIufiXghnqWpn1GY2Y', true, true, NULL, '2026-11-28 16:54:17.47936+00', '2026-11-28 16:54:17.47936+00', NULL, '', 0);
INSERT INTO public.users VALUES ('01a22314-3ac7-7851-b490-d8c602bdd27f', 'carol@example.com', 'carol@example.com', NULL, NULL, true, false, NULL, '2026-11-28 16:54:18.055074+00', '2026-11-28 16:54:18.055074+00', NULL, '', 0);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.email_tokens
    ADD CONSTRAINT pk_email_tokens PRIMARY KEY (id);
ALTER TABLE ONLY public.events
    ADD CONSTRAINT pk_events PRIMARY KEY (id);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT pk_outbox PRIMARY KEY (id);
ALTER TABLE ONLY public.refresh_families
    ADD CONSTRAINT pk_refresh_families PRIMARY KEY (session_id);
ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT pk_sessions PRIMARY KEY (id);
ALTER TABLE ONLY public.signing_keys
    ADD CONSTRAINT pk_signing_keys PRIMARY KEY (kid);
ALTER TABLE ONLY public.users
    ADD CONSTRAINT pk_users PRIMARY KEY (id);
ALTER TABLE ONLY public.email_tokens
    ADD CONSTRAINT uq_email_tokens_secret_hash UNIQUE (secret_hash);
ALTER TABLE ONLY public.refresh_families
    ADD CONSTRAINT uq_refresh_families_family_hash UNIQUE (family_hash);
ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT uq_sessions_secret_hash UNIQUE (secret_hash);
ALTER TABLE ONLY public.users
    ADD CONSTRAINT uq_users_email UNIQUE (email);
CREATE INDEX ix_email_tokens_email ON public.email_tokens USING btree (email);
CREATE INDEX ix_email_tokens_expires_at ON public.email_tokens USING btree (expires_at);
CREATE INDEX ix_email_tokens_user_id ON public.email_tokens USING btree (user_id);
CREATE INDEX ix_events_user_id_id ON public.events USING btree (user_id, id);
CREATE INDEX ix_events_user_id_type_network_id ON public.events USING btree (user_id, type, network, id);
CREATE INDEX ix_outbox_kind_failed_at_receiver_due_at_id ON public.outbox USING btree (kind, failed_at, receiver, due_at, id);
CREATE INDEX ix_outbox_user_id ON public.outbox USING btree (user_id);
CREATE INDEX ix_sessions_expires_at ON public.sessions USING btree (expires_at);
CREATE INDEX ix_sessions_previous_secret_hash ON public.sessions USING btree (previous_secret_hash);
CREATE INDEX ix_sessions_user_id ON public.sessions USING btree (user_id);
CREATE INDEX ix_users_created_at_id ON public.users USING btree (created_at, id);
ALTER TABLE ONLY public.email_tokens
    ADD CONSTRAINT fk_email_tokens_user_id_users FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT fk_outbox_user_id_users FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.refresh_families
    ADD CONSTRAINT fk_refresh_families_session_id_sessions FOREIGN KEY (session_id) REFERENCES public.sessions(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT fk_sessions_user_id_users FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
