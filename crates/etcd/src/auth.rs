//! The Auth service of a store that keeps no users.
//!
//! Authentication is off, and what follows from that is answered as etcd answers it: there is no
//! user and no role, there is nothing to enable without a root user, and nobody can authenticate.
//! Adding a user or a role is refused: it would promise a protection that is not there.

use std::sync::Arc;

use mainstay_etcd_protocol::etcdserverpb::{
    AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse,
    AuthRoleAddRequest, AuthRoleAddResponse, AuthRoleDeleteRequest, AuthRoleDeleteResponse,
    AuthRoleGetRequest, AuthRoleGetResponse, AuthRoleGrantPermissionRequest,
    AuthRoleGrantPermissionResponse, AuthRoleListRequest, AuthRoleListResponse,
    AuthRoleRevokePermissionRequest, AuthRoleRevokePermissionResponse, AuthStatusRequest,
    AuthStatusResponse, AuthUserAddRequest, AuthUserAddResponse, AuthUserChangePasswordRequest,
    AuthUserChangePasswordResponse, AuthUserDeleteRequest, AuthUserDeleteResponse,
    AuthUserGetRequest, AuthUserGetResponse, AuthUserGrantRoleRequest, AuthUserGrantRoleResponse,
    AuthUserListRequest, AuthUserListResponse, AuthUserRevokeRoleRequest,
    AuthUserRevokeRoleResponse, AuthenticateRequest, AuthenticateResponse, auth_server::Auth,
};
use tonic::{Request, Response, Status};

use crate::{api::Shared, error};

/// The revision of permissions in a store that never had any, as in etcd.
const AUTH_REVISION: u64 = 1;

/// Users, roles and permissions.
pub(crate) struct AuthService(pub(crate) Arc<Shared>);

fn not_kept(what: &str) -> Status {
    Status::unimplemented(format!("etcdserver: this version keeps no {what}; nothing was done"))
}

#[tonic::async_trait]
impl Auth for AuthService {
    async fn auth_enable(
        &self,
        request: Request<AuthEnableRequest>,
    ) -> Result<Response<AuthEnableResponse>, Status> {
        self.0.caller(request.metadata())?;
        Err(error::root_user_missing())
    }

    async fn auth_disable(
        &self,
        request: Request<AuthDisableRequest>,
    ) -> Result<Response<AuthDisableResponse>, Status> {
        self.0.caller(request.metadata())?;
        let header = Some(self.0.header());
        Ok(Response::new(AuthDisableResponse { header }))
    }

    async fn auth_status(
        &self,
        request: Request<AuthStatusRequest>,
    ) -> Result<Response<AuthStatusResponse>, Status> {
        self.0.caller(request.metadata())?;
        let header = Some(self.0.header());
        Ok(Response::new(AuthStatusResponse {
            header,
            enabled: false,
            auth_revision: AUTH_REVISION,
        }))
    }

    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        self.0.caller(request.metadata())?;
        Err(error::auth_not_enabled())
    }

    async fn user_add(
        &self,
        request: Request<AuthUserAddRequest>,
    ) -> Result<Response<AuthUserAddResponse>, Status> {
        self.0.caller(request.metadata())?;
        let empty = request.get_ref().name.is_empty();
        Err(if empty { error::user_empty() } else { not_kept("users") })
    }

    async fn user_get(
        &self,
        request: Request<AuthUserGetRequest>,
    ) -> Result<Response<AuthUserGetResponse>, Status> {
        self.0.caller(request.metadata())?;
        Err(error::user_not_found())
    }

    async fn user_list(
        &self,
        request: Request<AuthUserListRequest>,
    ) -> Result<Response<AuthUserListResponse>, Status> {
        self.0.caller(request.metadata())?;
        let header = Some(self.0.header());
        Ok(Response::new(AuthUserListResponse { header, users: Vec::new() }))
    }

    async fn user_delete(
        &self,
        request: Request<AuthUserDeleteRequest>,
    ) -> Result<Response<AuthUserDeleteResponse>, Status> {
        self.0.caller(request.metadata())?;
        Err(error::user_not_found())
    }

    async fn user_change_password(
        &self,
        request: Request<AuthUserChangePasswordRequest>,
    ) -> Result<Response<AuthUserChangePasswordResponse>, Status> {
        self.0.caller(request.metadata())?;
        Err(error::user_not_found())
    }

    async fn user_grant_role(
        &self,
        request: Request<AuthUserGrantRoleRequest>,
    ) -> Result<Response<AuthUserGrantRoleResponse>, Status> {
        self.0.caller(request.metadata())?;
        Err(error::user_not_found())
    }

    async fn user_revoke_role(
        &self,
        request: Request<AuthUserRevokeRoleRequest>,
    ) -> Result<Response<AuthUserRevokeRoleResponse>, Status> {
        self.0.caller(request.metadata())?;
        Err(error::user_not_found())
    }

    async fn role_add(
        &self,
        request: Request<AuthRoleAddRequest>,
    ) -> Result<Response<AuthRoleAddResponse>, Status> {
        self.0.caller(request.metadata())?;
        let empty = request.get_ref().name.is_empty();
        Err(if empty { error::role_empty() } else { not_kept("roles") })
    }

    async fn role_get(
        &self,
        request: Request<AuthRoleGetRequest>,
    ) -> Result<Response<AuthRoleGetResponse>, Status> {
        self.0.caller(request.metadata())?;
        Err(error::role_not_found())
    }

    async fn role_list(
        &self,
        request: Request<AuthRoleListRequest>,
    ) -> Result<Response<AuthRoleListResponse>, Status> {
        self.0.caller(request.metadata())?;
        let header = Some(self.0.header());
        Ok(Response::new(AuthRoleListResponse { header, roles: Vec::new() }))
    }

    async fn role_delete(
        &self,
        request: Request<AuthRoleDeleteRequest>,
    ) -> Result<Response<AuthRoleDeleteResponse>, Status> {
        self.0.caller(request.metadata())?;
        Err(error::role_not_found())
    }

    async fn role_grant_permission(
        &self,
        request: Request<AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<AuthRoleGrantPermissionResponse>, Status> {
        self.0.caller(request.metadata())?;
        if request.get_ref().perm.is_none() {
            return Err(error::permission_not_given());
        }
        Err(error::role_not_found())
    }

    async fn role_revoke_permission(
        &self,
        request: Request<AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<AuthRoleRevokePermissionResponse>, Status> {
        self.0.caller(request.metadata())?;
        Err(error::role_not_found())
    }
}
