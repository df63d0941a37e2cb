"""Which pronouns a model prefers: WinoGender by our rule and by the published one."""
